"""What the simulated provider remembers: an outside system's own books, which share no transaction with ours."""

from alembic import op

revision = "payments0002"
down_revision = "payments0001"


def upgrade() -> None:
    op.execute("""
        CREATE TABLE provider_ledger (
            key text PRIMARY KEY,
            kind text NOT NULL CHECK (kind IN ('capture', 'refund')),
            reference text NOT NULL,
            amount bigint NOT NULL,
            currency text NOT NULL,
            outcome text NOT NULL CHECK (outcome IN ('captured', 'declined', 'failed', 'refunded')),
            reason text NOT NULL DEFAULT '',
            charge text,
            at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
    """)
    op.execute("CREATE INDEX provider_ledger_reference ON provider_ledger (reference)")


def downgrade() -> None:
    op.execute("DROP TABLE provider_ledger")
