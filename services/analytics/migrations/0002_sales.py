"""What was sold, as the group `reporting` keeps it, and the lines of orders, which become that group's.

The group begins as a copy of what the group `analytics` has written and handled. The country is not among it, and comes
with a rebuild of the read model `sales`.
"""

from alembic import op
from sqlalchemy import text

revision = "analytics0002"
down_revision = "analytics0001"
branch_labels = None

CONSUMERS = (
    "analytics.order-created",
    "analytics.payment-completed",
    "analytics.payment-refunded",
    "analytics.order-cancelled",
)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE sale (
            order_id uuid PRIMARY KEY,
            user_id uuid,
            placed_at timestamptz,
            country text,
            currency text,
            total bigint,
            units bigint,
            captured bigint NOT NULL DEFAULT 0,
            paid_at timestamptz,
            refunded bigint NOT NULL DEFAULT 0,
            refunded_at timestamptz
        ) WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("""
        INSERT INTO sale
            (order_id, user_id, placed_at, currency, total, units, captured, paid_at, refunded, refunded_at)
        SELECT order_id, user_id, placed_at, currency, total, units, captured, paid_at, refunded, refunded_at
        FROM order_fact WHERE coalesce(placed_at, paid_at, refunded_at) IS NOT NULL
    """)
    op.execute("CREATE INDEX sale_placed_at ON sale (placed_at)")
    op.execute("CREATE INDEX sale_user ON sale (user_id, placed_at)")
    op.execute("CREATE INDEX sale_refunded_at ON sale (refunded_at) WHERE refunded_at IS NOT NULL")
    has_inbox = op.get_bind().scalar(text("SELECT to_regclass('inbox') IS NOT NULL"))
    if has_inbox:  # of a new database the kernel's tables may come later: there is nothing to copy
        op.execute(f"""
            INSERT INTO inbox (consumer, message_id, handled_at, key, cause, type, attempt, refused)
            SELECT replace(consumer, 'analytics.', 'reporting.'), message_id, handled_at, key, cause, type, attempt,
                refused
            FROM inbox WHERE consumer IN {CONSUMERS} ON CONFLICT DO NOTHING
        """)


def downgrade() -> None:
    op.execute("DROP TABLE sale")
    op.execute("DELETE FROM inbox WHERE consumer LIKE 'reporting.%'")
