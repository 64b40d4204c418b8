"""Outbox rows that the bus refused for good stay, with the reason, until somebody decides; later rows of their key wait
behind them.
"""

from alembic import op

revision = "k0002"
down_revision = "k0001"


def upgrade() -> None:
    op.execute("ALTER TABLE outbox ADD COLUMN refused_at timestamptz, ADD COLUMN reason text")
    op.execute("CREATE INDEX outbox_refused ON outbox (channel, key) WHERE refused_at IS NOT NULL")


def downgrade() -> None:
    op.execute("ALTER TABLE outbox DROP COLUMN refused_at, DROP COLUMN reason")
