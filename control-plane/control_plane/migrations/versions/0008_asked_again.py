"""What tells a request that is asked again, and who judged, at whichever gateway"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("routing_decisions", sa.Column("asked", sa.Text(), nullable=True))
    op.add_column("routing_lessons", sa.Column("key_id", sa.Text(), nullable=True))
    op.add_column("routing_lessons", sa.Column("asked", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("routing_lessons", "asked")
    op.drop_column("routing_lessons", "key_id")
    op.drop_column("routing_decisions", "asked")
