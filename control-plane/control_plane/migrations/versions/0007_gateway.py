"""Providers, limits, routes, and what gateways tell: usage, decisions, feedback, lessons, logged requests"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gateway_lives",
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("number >= 0", name="gateway_lives_number_sane"),
        sa.PrimaryKeyConstraint("gateway"),
    )
    op.create_table(
        "request_log",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("asked", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=True),
        sa.Column("request", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("answer", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.CheckConstraint("json_typeof(request) = 'object'", name="request_log_request_object"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("request_log_by_project", "request_log", ["project", "number"], unique=False)
    op.create_index("request_log_by_time", "request_log", ["at"], unique=False)
    op.create_table(
        "routing_decisions",
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("features", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("context", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("candidates", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("json_typeof(candidates) = 'array'", name="routing_decisions_candidates_array"),
        sa.CheckConstraint("json_typeof(features) = 'object'", name="routing_decisions_features_object"),
        sa.CheckConstraint("jsonb_typeof(result) = 'object'", name="routing_decisions_result_object"),
        sa.PrimaryKeyConstraint("decision_id"),
    )
    op.create_index(
        "routing_decisions_by_route", "routing_decisions", ["project", "route", "at", "decision_id"], unique=False
    )
    op.create_index("routing_decisions_by_time", "routing_decisions", ["at", "decision_id"], unique=False)
    op.create_table(
        "routing_lessons",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("gateway", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("route", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("features", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("context", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("quality", sa.Float(), nullable=True),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("quality BETWEEN 0 AND 1", name="routing_lessons_quality_share"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("routing_lessons_by_route", "routing_lessons", ["project", "route", "number"], unique=False)
    op.create_table(
        "usage",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("estimated_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost", sa.Numeric(), nullable=False),
        sa.CheckConstraint(
            "least(requests, failed, input_tokens, cached_tokens, output_tokens, estimated_tokens, cost) >= 0",
            name="usage_counts_sane",
        ),
        sa.PrimaryKeyConstraint("day", "key_id", "project", "model", "upstream"),
    )
    op.create_index("usage_by_key", "usage", ["key_id", "day"], unique=False)
    op.create_index("usage_by_project", "usage", ["project", "day"], unique=False)
    op.create_table(
        "providers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("models", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("allow_internal", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("base_url ~ '^https?://[^?#]+$'", name="providers_url_plain"),
        sa.CheckConstraint("jsonb_typeof(limits) = 'object'", name="providers_limits_object"),
        sa.CheckConstraint("jsonb_typeof(models) = 'array'", name="providers_models_array"),
        sa.CheckConstraint("kind IN ('openai', 'anthropic', 'ollama')", name="providers_kind_known"),
        sa.CheckConstraint("name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'", name="providers_name_plain"),
        sa.CheckConstraint("(sealed IS NULL) = (key_id IS NULL)", name="providers_sealed_under_a_key"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "providers_named_once", "providers", [sa.literal_column("coalesce(project, '')"), "name"], unique=True
    )
    op.create_table(
        "routes",
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("jsonb_typeof(settings) = 'object'", name="routes_settings_object"),
        sa.CheckConstraint("name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'", name="routes_name_plain"),
        sa.ForeignKeyConstraint(
            ["project"],
            ["projects.name"],
        ),
        sa.PrimaryKeyConstraint("project", "name"),
    )
    op.create_table(
        "routing_feedback",
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("decision_id", sa.Text(), nullable=False),
        sa.Column("signal", sa.Text(), nullable=False),
        sa.Column("rating", sa.Integer(), nullable=True),
        sa.Column("quality", sa.Float(), nullable=True),
        sa.Column("weight", sa.Float(), server_default="1", nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=True),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("quality BETWEEN 0 AND 1", name="routing_feedback_quality_share"),
        sa.CheckConstraint("rating BETWEEN 1 AND 5", name="routing_feedback_rating_known"),
        sa.ForeignKeyConstraint(["decision_id"], ["routing_decisions.decision_id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("routing_feedback_by_decision", "routing_feedback", ["decision_id", "number"], unique=False)
    op.create_index(
        "routing_feedback_rated_once",
        "routing_feedback",
        ["decision_id", "key_id"],
        unique=True,
        postgresql_where=sa.text("rating IS NOT NULL"),
    )
    op.add_column("api_keys", sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("projects", sa.Column("limits", postgresql.JSONB(astext_type=sa.Text()), nullable=True))
    op.add_column("projects", sa.Column("request_log", sa.Text(), server_default="off", nullable=False))
    op.create_check_constraint("api_keys_limits_object", "api_keys", "jsonb_typeof(limits) = 'object'")
    op.create_check_constraint("projects_limits_object", "projects", "jsonb_typeof(limits) = 'object'")
    op.create_check_constraint("projects_request_log_known", "projects", "request_log IN ('off', 'metadata', 'full')")


def downgrade() -> None:
    op.drop_column("projects", "request_log")
    op.drop_column("projects", "limits")
    op.drop_column("api_keys", "limits")
    op.drop_index("routing_feedback_rated_once", table_name="routing_feedback")
    op.drop_index("routing_feedback_by_decision", table_name="routing_feedback")
    op.drop_table("routing_feedback")
    op.drop_table("routes")
    op.drop_index("providers_named_once", table_name="providers")
    op.drop_table("providers")
    op.drop_index("usage_by_project", table_name="usage")
    op.drop_index("usage_by_key", table_name="usage")
    op.drop_table("usage")
    op.drop_index("routing_lessons_by_route", table_name="routing_lessons")
    op.drop_table("routing_lessons")
    op.drop_index("routing_decisions_by_time", table_name="routing_decisions")
    op.drop_index("routing_decisions_by_route", table_name="routing_decisions")
    op.drop_table("routing_decisions")
    op.drop_index("request_log_by_time", table_name="request_log")
    op.drop_index("request_log_by_project", table_name="request_log")
    op.drop_table("request_log")
    op.drop_table("gateway_lives")
