"""What payments knows: a payment per order, its attempts, its refund, and the invoice."""

from alembic import op

revision = "payments0001"
down_revision = None
branch_labels = ("payments",)


def upgrade() -> None:
    # A payment is updated twice within a second of being made: room in the page keeps the new versions there.
    op.execute("""
        CREATE TABLE payment (
            order_id uuid PRIMARY KEY,
            user_id uuid,
            status text NOT NULL
                CHECK (status IN ('expected', 'capturing', 'retrying', 'completed', 'failed', 'refunding', 'refunded',
                    'voided')),
            amount bigint NOT NULL CHECK (amount >= 0),
            currency text NOT NULL,
            method text NOT NULL DEFAULT '',
            token text NOT NULL DEFAULT '',
            attempt int NOT NULL DEFAULT 0,
            reason text NOT NULL DEFAULT '',
            refund_asked boolean NOT NULL DEFAULT false,
            due_at timestamptz,
            traceparent text,
            actor text,
            cause uuid,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            CHECK ((due_at IS NOT NULL) = (status IN ('capturing', 'retrying')))
        ) WITH (fillfactor = 70)
    """)
    op.execute("CREATE INDEX payment_due ON payment (due_at) WHERE due_at IS NOT NULL")
    op.execute(
        "CREATE INDEX payment_status ON payment (status, order_id) WHERE status NOT IN ('expected', 'capturing', "
        "'completed')"
    )
    op.execute("""
        CREATE TABLE payment_attempt (
            order_id uuid NOT NULL,
            attempt int NOT NULL,
            state text NOT NULL CHECK (state IN ('sent', 'unknown', 'captured', 'declined', 'failed')),
            asked int NOT NULL DEFAULT 1,
            charge text,
            reason text NOT NULL DEFAULT '',
            started_at timestamptz NOT NULL,
            finished_at timestamptz,
            PRIMARY KEY (order_id, attempt)
        ) WITH (fillfactor = 80)
    """)
    op.execute("CREATE UNIQUE INDEX payment_captured_once ON payment_attempt (order_id) WHERE state = 'captured'")
    op.execute("""
        CREATE TABLE bill (
            order_id uuid PRIMARY KEY,
            email text NOT NULL,
            customer_name text NOT NULL,
            billing_address text NOT NULL,
            lines json NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE invoice (
            number bigint PRIMARY KEY CHECK (number > 0),
            order_id uuid NOT NULL UNIQUE REFERENCES payment,
            issued_at timestamptz NOT NULL
        )
    """)
    # A sequence would leave holes where a transaction rolls back.
    op.execute("CREATE TABLE invoice_counter (last bigint NOT NULL)")
    op.execute("INSERT INTO invoice_counter VALUES (0)")
    op.execute("""
        CREATE TABLE refund (
            order_id uuid PRIMARY KEY REFERENCES payment,
            state text NOT NULL CHECK (state IN ('requested', 'sent', 'unknown', 'done')),
            amount bigint NOT NULL CHECK (amount >= 0),
            reason text NOT NULL,
            asked int NOT NULL DEFAULT 0,
            due_at timestamptz,
            traceparent text,
            actor text,
            cause uuid,
            requested_at timestamptz NOT NULL,
            refunded_at timestamptz
        )
    """)
    op.execute("CREATE INDEX refund_due ON refund (due_at) WHERE due_at IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP TABLE refund, invoice_counter, invoice, bill, payment_attempt, payment")
