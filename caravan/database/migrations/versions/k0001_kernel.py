"""Outbox, inbox and idempotency records: the tables that the kernel needs in every service's database."""

from alembic import op

revision = "k0001"
down_revision = None
branch_labels = ("kernel",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE outbox (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            message_id uuid NOT NULL,
            kind text NOT NULL,
            channel text NOT NULL,
            route text NOT NULL,
            key text NOT NULL,
            body bytea NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now()
        ) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("""
        CREATE TABLE inbox (
            consumer text NOT NULL,
            message_id uuid NOT NULL,
            handled_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (consumer, message_id)
        )
    """)
    op.execute("CREATE INDEX inbox_handled_at ON inbox USING brin (handled_at)")
    op.execute("""
        CREATE TABLE idempotency (
            scope text NOT NULL,
            key text NOT NULL,
            fingerprint bytea NOT NULL,
            status smallint NOT NULL,
            headers json NOT NULL,
            body bytea NOT NULL,
            expires_at timestamptz NOT NULL,
            PRIMARY KEY (scope, key)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE idempotency, inbox, outbox")
