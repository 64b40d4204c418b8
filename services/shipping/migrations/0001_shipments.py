"""A shipment per order."""

from alembic import op

revision = "shipping0001"
down_revision = None
branch_labels = ("shipping",)


def upgrade() -> None:
    # A shipment is updated four times within seconds of being made: room in the page keeps the new versions there.
    op.execute("""
        CREATE TABLE shipment (
            order_id uuid PRIMARY KEY,
            status text NOT NULL CHECK (status IN ('requested', 'booking', 'shipped', 'delivered', 'cancelled')),
            email text NOT NULL DEFAULT '',
            recipient text NOT NULL DEFAULT '',
            address text NOT NULL DEFAULT '',
            parcels json NOT NULL DEFAULT '[]',
            carrier text NOT NULL DEFAULT '',
            tracking_number text NOT NULL DEFAULT '',
            due_at timestamptz,
            traceparent text,
            actor text,
            cause uuid,
            requested_at timestamptz NOT NULL,
            shipped_at timestamptz,
            delivered_at timestamptz,
            cancelled_at timestamptz,
            CHECK ((due_at IS NOT NULL) = (status IN ('requested', 'booking', 'shipped')))
        ) WITH (fillfactor = 60)
    """)
    op.execute("CREATE INDEX shipment_leaving ON shipment (due_at) WHERE status IN ('requested', 'booking')")
    op.execute("CREATE INDEX shipment_travelling ON shipment (due_at) WHERE status = 'shipped'")


def downgrade() -> None:
    op.execute("DROP TABLE shipment")
