"""The simulated provider lists its entries in the order of their time, as a statement."""

from alembic import op

revision = "payments0007"
down_revision = "payments0006"


def upgrade() -> None:
    op.execute("CREATE INDEX provider_ledger_time ON provider_ledger (at, key)")


def downgrade() -> None:
    op.execute("DROP INDEX provider_ledger_time")
