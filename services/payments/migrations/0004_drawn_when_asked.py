"""Invoices are drawn when asked for: no list of those that are not. `invoice.drawn` stays until no process reads it."""

from alembic import op

revision = "payments0004"
down_revision = "payments0003"


def upgrade() -> None:
    op.execute("DROP INDEX invoice_undrawn")


def downgrade() -> None:
    op.execute("CREATE INDEX invoice_undrawn ON invoice (number) WHERE drawn <> revision")
