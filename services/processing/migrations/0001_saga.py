"""One row per order: what the saga knows, and by when it expects an answer."""

from alembic import op

revision = "processing0001"
down_revision = None
branch_labels = ("processing",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE saga (
            order_id uuid PRIMARY KEY,
            created json,
            stock text NOT NULL,
            money text NOT NULL,
            parcel text NOT NULL,
            cancel text,
            reason text NOT NULL,
            captured bigint NOT NULL,
            refunded bigint NOT NULL CHECK (refunded <= captured),
            processed boolean NOT NULL,
            closed boolean NOT NULL,
            version int NOT NULL,
            started_at timestamptz NOT NULL,
            deadline timestamptz,
            reminders int NOT NULL DEFAULT 0
        ) WITH (fillfactor = 50, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX saga_open ON saga (deadline) WHERE NOT closed")


def downgrade() -> None:
    op.execute("DROP TABLE saga")
