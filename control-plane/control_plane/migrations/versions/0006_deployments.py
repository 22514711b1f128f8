"""Deployments, their versions, adapters and names, and the workers that look after them"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "inference_workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("launcher", sa.Text(), nullable=False),
        sa.Column("engines", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("devices", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("gpus_free", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("launcher IN ('process', 'kubernetes')", name="inference_workers_launcher_known"),
        sa.CheckConstraint("batch >= 0 AND memory_bytes >= 0 AND gpus_free >= 0", name="inference_workers_counts_sane"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "deployments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("replicas", sa.Integer(), nullable=False),
        sa.Column("launcher", sa.Text(), nullable=True),
        sa.Column("start_timeout_seconds", sa.Integer(), nullable=False),
        sa.Column("idle_seconds", sa.Integer(), nullable=True),
        sa.Column("drain_seconds", sa.Integer(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("asleep", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("serving_revision", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("error", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("progress", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("ready_replicas", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("waiting_reason", sa.Text(), nullable=True),
        sa.Column("waiting_message", sa.Text(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("last_line", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("busy_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("room_made_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("launcher IN ('process', 'kubernetes')", name="deployments_launcher_known"),
        sa.CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'", name="deployments_name_plain"),
        sa.CheckConstraint(
            "reason IN ('no_worker', 'no_room', 'bad_arguments', 'bad_model', 'bad_adapter', 'engine_missing', 'port_taken', 'out_of_memory', 'start_timeout', 'crash_loop', 'unhealthy', 'engine_error', 'user_stopped', 'idle')",
            name="deployments_reason_known",
        ),
        sa.CheckConstraint("state <> 'ready' OR ready_replicas >= 1", name="deployments_ready_has_replicas"),
        sa.CheckConstraint(
            "state IN ('pending', 'starting', 'ready', 'degraded', 'failed', 'stopped')", name="deployments_state_known"
        ),
        sa.CheckConstraint(
            "waiting_reason IN ('no_worker', 'no_room', 'bad_arguments', 'bad_model', 'bad_adapter', 'engine_missing', 'port_taken', 'out_of_memory', 'start_timeout', 'crash_loop', 'unhealthy', 'engine_error', 'user_stopped', 'idle')",
            name="deployments_waiting_known",
        ),
        sa.CheckConstraint("(worker_id IS NULL) = (lease_until IS NULL)", name="deployments_lease_of_worker"),
        sa.CheckConstraint("NOT (stopped AND asleep)", name="deployments_stopped_or_asleep"),
        sa.CheckConstraint("last_seq >= 0 AND last_line >= 0", name="deployments_counters_sane"),
        sa.CheckConstraint(
            "ready_replicas = 0 OR (serving_revision IS NOT NULL AND NOT stopped AND NOT asleep)",
            name="deployments_serving_when_ready",
        ),
        sa.CheckConstraint("ready_replicas BETWEEN 0 AND replicas", name="deployments_ready_wanted"),
        sa.CheckConstraint("replicas BETWEEN 0 AND 64", name="deployments_replicas_sane"),
        sa.CheckConstraint(
            "revision >= 1 AND serving_revision BETWEEN 1 AND revision", name="deployments_revisions_sane"
        ),
        sa.CheckConstraint(
            "start_timeout_seconds >= 1 AND drain_seconds >= 0 AND idle_seconds >= 1", name="deployments_times_sane"
        ),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("deployments_by_project", "deployments", ["project", sa.literal_column("id DESC")], unique=False)
    op.create_index(
        "deployments_by_worker",
        "deployments",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("worker_id IS NOT NULL"),
    )
    op.create_index(
        "deployments_labels",
        "deployments",
        ["labels"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )
    op.create_index(
        "deployments_unowned", "deployments", ["id"], unique=False, postgresql_where=sa.text("worker_id IS NULL")
    )
    op.create_table(
        "deployment_events",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint("type IN ('state', 'progress', 'adapter', 'message')", name="deployment_events_type_known"),
        sa.CheckConstraint("seq >= 1", name="deployment_events_seq_positive"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("deployment_id", "seq"),
    )
    op.create_table(
        "deployment_lines",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("replica", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.CheckConstraint("seq >= 1", name="deployment_lines_seq_positive"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("deployment_id", "seq"),
    )
    op.create_table(
        "deployment_replicas",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("report", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "state IN ('pending', 'starting', 'ready', 'degraded', 'failed', 'stopped')",
            name="deployment_replicas_state_known",
        ),
        sa.CheckConstraint("revision >= 1 AND number >= 0", name="deployment_replicas_numbers_sane"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("deployment_id", "revision", "number"),
    )
    op.create_table(
        "served_names",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("adapter", sa.Boolean(), nullable=False),
        sa.CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$'", name="served_names_plain"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.create_index("served_names_by_deployment", "served_names", ["deployment_id"], unique=False)
    op.create_table(
        "deployment_adapters",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.Column("added_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'loaded', 'failed')", name="deployment_adapters_state_known"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("deployment_id", "name"),
    )
    op.create_index("deployment_adapters_by_model", "deployment_adapters", ["model_id"], unique=False)
    op.create_table(
        "deployment_revisions",
        sa.Column("deployment_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("base", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("engine_args", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("gpu", sa.Integer(), nullable=True),
        sa.Column("port", sa.Integer(), nullable=True),
        sa.Column("failure", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("engine IN ('vllm', 'llamacpp')", name="deployment_revisions_engine_known"),
        sa.CheckConstraint("gpu BETWEEN 0 AND 64", name="deployment_revisions_gpu_sane"),
        sa.CheckConstraint("number >= 1", name="deployment_revisions_number_sane"),
        sa.CheckConstraint("port BETWEEN 1024 AND 65535", name="deployment_revisions_port_sane"),
        sa.ForeignKeyConstraint(["deployment_id"], ["deployments.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["model_id"], ["models.id"], ondelete="RESTRICT"),
        sa.PrimaryKeyConstraint("deployment_id", "number"),
    )
    op.create_index(
        "deployment_revisions_by_model",
        "deployment_revisions",
        ["model_id"],
        unique=False,
        postgresql_where=sa.text("model_id IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index(
        "deployment_revisions_by_model",
        table_name="deployment_revisions",
        postgresql_where=sa.text("model_id IS NOT NULL"),
    )
    op.drop_table("deployment_revisions")
    op.drop_index("deployment_adapters_by_model", table_name="deployment_adapters")
    op.drop_table("deployment_adapters")
    op.drop_index("served_names_by_deployment", table_name="served_names")
    op.drop_table("served_names")
    op.drop_table("deployment_replicas")
    op.drop_table("deployment_lines")
    op.drop_table("deployment_events")
    op.drop_index("deployments_unowned", table_name="deployments", postgresql_where=sa.text("worker_id IS NULL"))
    op.drop_index(
        "deployments_labels",
        table_name="deployments",
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )
    op.drop_index("deployments_by_worker", table_name="deployments", postgresql_where=sa.text("worker_id IS NOT NULL"))
    op.drop_index("deployments_by_project", table_name="deployments")
    op.drop_table("deployments")
    op.drop_table("inference_workers")
