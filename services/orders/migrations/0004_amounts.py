"""What an order comes to, and of how much of what: all that reconciliation reads of an order's first event, which also
holds the customer.
"""

from alembic import op

revision = "orders0004"
down_revision = "orders0003"


def upgrade() -> None:
    op.execute("""
        CREATE VIEW order_amount AS
        SELECT stream AS order_id, (data->'total'->>'amount')::bigint AS amount,
            data->'total'->>'currency' AS currency, data->'lines' AS lines
        FROM event WHERE version = 1 AND type = 'orders.OrderCreated'
    """)


def downgrade() -> None:
    op.execute("DROP VIEW order_amount")
