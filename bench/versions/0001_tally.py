"""What the measured consumer changes."""

from alembic import op

revision = "bench0001"
down_revision = None
branch_labels = ("bench",)


def upgrade() -> None:
    op.execute("CREATE TABLE tally (key text PRIMARY KEY, seen bigint NOT NULL)")
