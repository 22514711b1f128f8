"""The foundation's tables"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "presence",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "projects",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("max_running_jobs", sa.Integer(), nullable=True),
        sa.Column("max_queued_jobs", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("name ~ '^[a-z0-9][a-z0-9-]{0,62}$'", name="projects_name_plain"),
        sa.CheckConstraint("max_running_jobs >= 0 AND max_queued_jobs >= 0", name="projects_quota_sane"),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "prunings",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("removed", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("prunings_by_time", "prunings", [sa.literal_column("at DESC")], unique=False)
    op.create_table(
        "storage_trash",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("devices", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("slots >= 1", name="workers_slots_positive"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("(role = 'admin') = (project IS NULL)", name="api_keys_project_of_role"),
        sa.CheckConstraint("role IN ('admin', 'member', 'viewer', 'inference')", name="api_keys_role_known"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("key_hash"),
    )
    op.create_table(
        "datasets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=True),
        sa.Column("asked_format", sa.Text(), nullable=True),
        sa.Column("file_type", sa.Text(), nullable=True),
        sa.Column("file_name", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=True),
        sa.Column("bad_rows", sa.BigInteger(), nullable=True),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("columns", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("sample", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("problems", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "(state = 'ready') <= (rows IS NOT NULL AND bad_rows IS NOT NULL)", name="datasets_ready_counted"
        ),
        sa.CheckConstraint("state IN ('ready', 'unchecked', 'unreadable')", name="datasets_state_known"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("project", "name", "sha256", name="datasets_content_once"),
        sa.UniqueConstraint("project", "name", "version", name="datasets_version_once"),
    )
    op.create_index("datasets_by_content", "datasets", ["sha256"], unique=False)
    op.create_index("datasets_by_project", "datasets", ["project", sa.literal_column("id DESC")], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column(
            "labels",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("spec", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.Column("result", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column(
            "progress",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            server_default=sa.text("'{}'::jsonb"),
            nullable=False,
        ),
        sa.Column("checkpoint", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
        sa.Column("attempt", sa.Integer(), server_default="0", nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("timeout_seconds", sa.Integer(), nullable=True),
        sa.Column("token_hash", sa.LargeBinary(), nullable=True),
        sa.Column("claim_id", sa.Text(), nullable=True),
        sa.Column("worker_id", sa.Text(), nullable=True),
        sa.Column("batch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_seq", sa.Integer(), server_default="1", nullable=False),
        sa.Column("log_lines", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempt_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("events_pruned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("logs_pruned_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=True),
        sa.Column("clone_of", sa.Uuid(), nullable=True),
        sa.Column(
            "search",
            postgresql.TSVECTOR(),
            sa.Computed(
                "to_tsvector('simple'::regconfig, coalesce(name, '')) || jsonb_to_tsvector('simple'::regconfig, labels, '[\"key\", \"string\"]') || jsonb_to_tsvector('simple'::regconfig, spec, '[\"string\"]')",
                persisted=True,
            ),
            nullable=True,
        ),
        sa.CheckConstraint(
            "(state IN ('dispatched', 'running', 'stopping')) = (token_hash IS NOT NULL)",
            name="jobs_token_lives_with_attempt",
        ),
        sa.CheckConstraint(
            "(state IN ('dispatched', 'running', 'stopping')) = (worker_id IS NOT NULL)",
            name="jobs_worker_lives_with_attempt",
        ),
        sa.CheckConstraint(
            "(state IN ('failed', 'stopped', 'succeeded')) = (ended_at IS NOT NULL)", name="jobs_ended_when_final"
        ),
        sa.CheckConstraint(
            "(state IN ('running', 'stopping')) = (lease_until IS NOT NULL)", name="jobs_lease_lives_with_run"
        ),
        sa.CheckConstraint("kind IN ('training', 'analysis', 'evaluation', 'export')", name="jobs_kind_known"),
        sa.CheckConstraint(
            "reason IN ('user_stopped', 'user_paused', 'bad_config', 'bad_data', 'out_of_memory', 'out_of_disk', 'engine_error', 'engine_killed', 'worker_lost', 'worker_shutdown', 'undelivered', 'timeout', 'superseded')",
            name="jobs_reason_known",
        ),
        sa.CheckConstraint(
            "state <> 'stopping' OR coalesce(reason, '') IN ('user_stopped', 'user_paused')", name="jobs_stopping_asked"
        ),
        sa.CheckConstraint(
            "state IN ('queued', 'dispatched', 'running', 'stopping', 'paused', 'succeeded', 'failed', 'stopped')",
            name="jobs_state_known",
        ),
        sa.CheckConstraint("attempt >= 0 AND tries >= 0 AND tries <= attempt", name="jobs_attempts_sane"),
        sa.CheckConstraint("last_seq >= 1 AND log_lines >= 0 AND batch >= 0", name="jobs_counters_sane"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("jobs_by_kind", "jobs", ["kind", sa.literal_column("id DESC")], unique=False)
    op.create_index("jobs_by_project", "jobs", ["project", sa.literal_column("id DESC")], unique=False)
    op.create_index("jobs_by_project_kind", "jobs", ["project", "kind", sa.literal_column("id DESC")], unique=False)
    op.create_index("jobs_by_project_state", "jobs", ["project", "state", sa.literal_column("id DESC")], unique=False)
    op.create_index("jobs_by_state", "jobs", ["state", sa.literal_column("id DESC")], unique=False)
    op.create_index("jobs_ended", "jobs", ["ended_at"], unique=False, postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.create_index(
        "jobs_held",
        "jobs",
        ["worker_id"],
        unique=False,
        postgresql_where=sa.text("state IN ('dispatched', 'running', 'stopping')"),
    )
    op.create_index(
        "jobs_idempotency",
        "jobs",
        ["project", "idempotency_key"],
        unique=True,
        postgresql_where=sa.text("idempotency_key IS NOT NULL"),
    )
    op.create_index(
        "jobs_labels",
        "jobs",
        ["labels"],
        unique=False,
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    )
    op.create_index(
        "jobs_queue",
        "jobs",
        ["kind", "project", sa.literal_column("priority DESC"), "id"],
        unique=False,
        postgresql_where=sa.text("state = 'queued'"),
    )
    op.create_index("jobs_search", "jobs", ["search"], unique=False, postgresql_using="gin")
    op.create_index(
        "jobs_succeeded", "jobs", ["kind", "ended_at"], unique=False, postgresql_where=sa.text("state = 'succeeded'")
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("states", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("kinds", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("allow_internal", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "job_datasets",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "dataset_id"),
    )
    op.create_index("job_datasets_by_dataset", "job_datasets", ["dataset_id"], unique=False)
    op.create_table(
        "job_events",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("data", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.CheckConstraint(
            "type IN ('state', 'progress', 'metric', 'log', 'checkpoint', 'artifact', 'message')",
            name="job_events_type_known",
        ),
        sa.CheckConstraint("seq >= 1", name="job_events_seq_positive"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "seq"),
    )
    op.create_table(
        "job_logs",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("first_line", sa.Integer(), nullable=False),
        sa.Column("lines", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.CheckConstraint("(body IS NULL) <> (key IS NULL)", name="job_logs_one_place"),
        sa.CheckConstraint("lines >= 1 AND first_line >= 1", name="job_logs_count_sane"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "first_line"),
    )
    op.create_index(
        "job_logs_young", "job_logs", ["job_id"], unique=False, postgresql_where=sa.text("body IS NOT NULL")
    )
    op.create_table(
        "job_metrics",
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("values", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "step"),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'pending') = (next_try_at IS NOT NULL)", name="webhook_deliveries_due_when_pending"
        ),
        sa.CheckConstraint("state IN ('pending', 'delivered', 'failed')", name="webhook_deliveries_state_known"),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "webhook_deliveries_by_webhook",
        "webhook_deliveries",
        ["webhook_id", sa.literal_column("id DESC")],
        unique=False,
    )
    op.create_index(
        "webhook_deliveries_due",
        "webhook_deliveries",
        ["next_try_at"],
        unique=False,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.execute("INSERT INTO projects (name, created_at) VALUES ('default', clock_timestamp())")


def downgrade() -> None:
    op.drop_index(
        "webhook_deliveries_due", table_name="webhook_deliveries", postgresql_where=sa.text("state = 'pending'")
    )
    op.drop_index("webhook_deliveries_by_webhook", table_name="webhook_deliveries")
    op.drop_table("webhook_deliveries")
    op.drop_table("job_metrics")
    op.drop_index("job_logs_young", table_name="job_logs", postgresql_where=sa.text("body IS NOT NULL"))
    op.drop_table("job_logs")
    op.drop_table("job_events")
    op.drop_index("job_datasets_by_dataset", table_name="job_datasets")
    op.drop_table("job_datasets")
    op.drop_table("webhooks")
    op.drop_index("jobs_succeeded", table_name="jobs", postgresql_where=sa.text("state = 'succeeded'"))
    op.drop_index("jobs_search", table_name="jobs", postgresql_using="gin")
    op.drop_index("jobs_queue", table_name="jobs", postgresql_where=sa.text("state = 'queued'"))
    op.drop_index("jobs_labels", table_name="jobs", postgresql_using="gin", postgresql_ops={"labels": "jsonb_path_ops"})
    op.drop_index("jobs_idempotency", table_name="jobs", postgresql_where=sa.text("idempotency_key IS NOT NULL"))
    op.drop_index(
        "jobs_held", table_name="jobs", postgresql_where=sa.text("state IN ('dispatched', 'running', 'stopping')")
    )
    op.drop_index("jobs_ended", table_name="jobs", postgresql_where=sa.text("ended_at IS NOT NULL"))
    op.drop_index("jobs_by_state", table_name="jobs")
    op.drop_index("jobs_by_project_state", table_name="jobs")
    op.drop_index("jobs_by_project_kind", table_name="jobs")
    op.drop_index("jobs_by_project", table_name="jobs")
    op.drop_index("jobs_by_kind", table_name="jobs")
    op.drop_table("jobs")
    op.drop_index("datasets_by_project", table_name="datasets")
    op.drop_index("datasets_by_content", table_name="datasets")
    op.drop_table("datasets")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("storage_trash")
    op.drop_index("prunings_by_time", table_name="prunings")
    op.drop_table("prunings")
    op.drop_table("projects")
    op.drop_table("presence")
