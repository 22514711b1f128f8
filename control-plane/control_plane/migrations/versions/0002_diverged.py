"""A reason for training whose loss ran away"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BEFORE = (
    "user_stopped", "user_paused", "bad_config", "bad_data", "out_of_memory", "out_of_disk", "engine_error",
    "engine_killed", "worker_lost", "worker_shutdown", "undelivered", "timeout", "superseded",
)  # fmt: skip
AFTER = (*BEFORE[:11], "diverged", *BEFORE[11:])


def upgrade() -> None:
    _allow(AFTER)


def downgrade() -> None:
    op.execute("UPDATE jobs SET reason = 'engine_error' WHERE reason = 'diverged'")
    _allow(BEFORE)


def _allow(reasons: tuple[str, ...]) -> None:
    """NOT VALID takes its lock for a moment only; the rows are looked at afterwards, while others go on."""
    listed = ", ".join(repr(reason) for reason in reasons)
    op.execute("ALTER TABLE jobs DROP CONSTRAINT jobs_reason_known")
    op.execute(f"ALTER TABLE jobs ADD CONSTRAINT jobs_reason_known CHECK (reason IN ({listed})) NOT VALID")
    op.execute("ALTER TABLE jobs VALIDATE CONSTRAINT jobs_reason_known")
