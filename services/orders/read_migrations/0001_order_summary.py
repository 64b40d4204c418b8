"""The read side: one row per order as lists and details show it, and how far the events have been read."""

from alembic import op

revision = "orders_read0001"
down_revision = None
branch_labels = ("orders_read",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE order_summary (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL,
            total bigint NOT NULL,
            currency text NOT NULL,
            lines json NOT NULL,
            shipping_address json NOT NULL,
            placed_at timestamptz NOT NULL,
            status text NOT NULL,
            version int NOT NULL,
            cancelling boolean NOT NULL,
            reason text,
            invoice_number text,
            tracking_number text,
            refunded bigint,
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX order_summary_owner ON order_summary (user_id, placed_at DESC, id DESC)")
    op.execute("CREATE INDEX order_summary_recent ON order_summary (placed_at DESC, id DESC)")
    op.execute(
        "CREATE TABLE checkpoint (projection text PRIMARY KEY, transaction bigint NOT NULL, position bigint NOT NULL)"
    )
    op.execute("INSERT INTO checkpoint VALUES ('order_summary', 0, 0)")


def downgrade() -> None:
    op.execute("DROP TABLE checkpoint, order_summary")
