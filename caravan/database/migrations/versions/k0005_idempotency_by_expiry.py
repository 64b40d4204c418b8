"""Expired answers are found by an index: each minute the whole table was read for them, however many were kept."""

from alembic import op

revision = "k0005"
down_revision = "k0004"


def upgrade() -> None:
    op.execute("CREATE INDEX idempotency_expires_at ON idempotency (expires_at)")


def downgrade() -> None:
    op.execute("DROP INDEX idempotency_expires_at")
