"""How a cancellation stands, and why. What was cancelled before says so after the next rebuild."""

from alembic import op

revision = "orders_read0002"
down_revision = "orders_read0001"


def upgrade() -> None:
    op.execute("ALTER TABLE order_summary ADD COLUMN cancellation text, ADD COLUMN cancellation_reason text")


def downgrade() -> None:
    op.execute("ALTER TABLE order_summary DROP COLUMN cancellation, DROP COLUMN cancellation_reason")
