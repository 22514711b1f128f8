"""Sweeps and their trials"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("base", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("trials", sa.Integer(), nullable=False),
        sa.Column("concurrency", sa.Integer(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("goal", sa.Text(), nullable=False),
        sa.Column("asha", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("reports", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('running', 'stopping', 'stopped', 'succeeded', 'failed')", name="sweeps_state_known"
        ),
        sa.CheckConstraint("method IN ('grid', 'random', 'asha')", name="sweeps_method_known"),
        sa.CheckConstraint("goal IN ('minimize', 'maximize')", name="sweeps_goal_known"),
        sa.CheckConstraint("(method = 'asha') = (asha IS NOT NULL)", name="sweeps_asha_of_asha"),
        sa.CheckConstraint("trials >= 1 AND concurrency >= 1", name="sweeps_counts_sane"),
        sa.CheckConstraint(
            "(state IN ('stopped', 'succeeded', 'failed')) = (ended_at IS NOT NULL)", name="sweeps_ended_when_final"
        ),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sweeps_by_project", "sweeps", ["project", sa.literal_column("id DESC")], unique=False)
    op.create_index("sweeps_going_on", "sweeps", ["id"], unique=False, postgresql_where=sa.text("ended_at IS NULL"))
    op.create_index(
        "sweeps_idempotency",
        "sweeps",
        ["project", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_table(
        "sweep_trials",
        sa.Column("sweep_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("parameters", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("pruned_at_step", sa.BigInteger(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint(
            "state IN ('waiting', 'active', 'succeeded', 'failed', 'stopped', 'pruned')",
            name="sweep_trials_state_known",
        ),
        sa.CheckConstraint("number >= 1", name="sweep_trials_number_sane"),
        sa.CheckConstraint("state <> 'pruned' OR pruned_at_step IS NOT NULL", name="sweep_trials_pruned_somewhere"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sweep_id", "number"),
    )
    op.create_index(
        "sweep_trials_by_job",
        "sweep_trials",
        ["job_id"],
        unique=True,
        postgresql_where=sa.text("job_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("sweep_trials_by_job", table_name="sweep_trials", postgresql_where=sa.text("job_id IS NOT NULL"))
    op.drop_table("sweep_trials")
    op.drop_index("sweeps_idempotency", table_name="sweeps", postgresql_where=sa.text("idempotency_key IS NOT NULL"))
    op.drop_index("sweeps_going_on", table_name="sweeps", postgresql_where=sa.text("ended_at IS NULL"))
    op.drop_index("sweeps_by_project", table_name="sweeps")
    op.drop_table("sweeps")
