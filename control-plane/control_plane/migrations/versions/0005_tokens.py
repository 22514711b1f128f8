"""Tokens of projects, and the queue by the GPUs that jobs ask for"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "project_tokens",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("set_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("set_by", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["projects.name"]),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.create_index(
        "jobs_queue_gpus",
        "jobs",
        [
            "kind",
            sa.literal_column("coalesce(spec -> 'gpus', 'null'::jsonb)"),
            "project",
            sa.literal_column("priority DESC"),
            "id",
        ],
        unique=False,
        postgresql_where=sa.text("state = 'queued' AND kind <> 'analysis'"),
    )


def downgrade() -> None:
    op.drop_index(
        "jobs_queue_gpus",
        table_name="jobs",
        postgresql_where=sa.text("state = 'queued' AND kind <> 'analysis'"),
    )
    op.drop_table("project_tokens")
