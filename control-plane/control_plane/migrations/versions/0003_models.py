"""Models, the models that jobs read, and checkpoints"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "models",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("base_model", sa.Text(), nullable=True),
        sa.Column("base_model_id", sa.Uuid(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("checkpoint_step", sa.BigInteger(), nullable=True),
        sa.Column("prefix", sa.Text(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("details", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("metrics", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("trust_remote_code", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint("kind IN ('base', 'adapter', 'merged', 'gguf')", name="models_kind_known"),
        sa.CheckConstraint("(kind = 'base') = (source IS NOT NULL)", name="models_source_of_base"),
        sa.CheckConstraint("(kind = 'base') = (prefix IS NULL)", name="models_files_unless_base"),
        sa.CheckConstraint("version >= 1 AND bytes >= 0 AND files >= 0", name="models_counts_sane"),
        sa.ForeignKeyConstraint(["base_model_id"], ["models.id"], ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="RESTRICT"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", "version", name="models_version_once"),
    )
    op.create_index(
        "models_by_base",
        "models",
        ["base_model_id"],
        unique=False,
        postgresql_where=sa.text("base_model_id IS NOT NULL"),
    )
    op.create_index("models_by_job", "models", ["job_id"], unique=False, postgresql_where=sa.text("job_id IS NOT NULL"))
    op.create_index("models_by_project", "models", ["project", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "job_models",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("named", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("job_id", "named"),
    )
    op.create_index("job_models_by_model", "job_models", ["model_id"], unique=False)
    op.create_table(
        "job_checkpoints",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("step >= 0 AND bytes >= 0 AND files >= 0", name="job_checkpoints_counts_sane"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "attempt", "step"),
    )


def downgrade() -> None:
    op.drop_table("job_checkpoints")
    op.drop_index("job_models_by_model", table_name="job_models")
    op.drop_table("job_models")
    op.drop_index("models_by_project", table_name="models")
    op.drop_index("models_by_job", table_name="models", postgresql_where=sa.text("job_id IS NOT NULL"))
    op.drop_index("models_by_base", table_name="models", postgresql_where=sa.text("base_model_id IS NOT NULL"))
    op.drop_table("models")
