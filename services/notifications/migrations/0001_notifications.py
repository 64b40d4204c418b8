"""Notifications and the preferences of users."""

from alembic import op

revision = "notifications0001"
down_revision = None
branch_labels = ("notifications",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE notification (
            id uuid PRIMARY KEY,
            about text NOT NULL,
            kind text NOT NULL,
            user_id uuid,
            order_id uuid,
            channel text NOT NULL CHECK (channel IN ('email', 'sms', 'log')),
            recipient text NOT NULL,
            priority text NOT NULL CHECK (priority IN ('critical', 'standard')),
            state text NOT NULL CHECK (state IN ('pending', 'sent', 'failed', 'suppressed')),
            attempts smallint NOT NULL DEFAULT 0,
            created_at timestamptz NOT NULL,
            due_at timestamptz NOT NULL,
            sent_at timestamptz,
            subject text,
            reason text,
            values json,
            CONSTRAINT notification_once UNIQUE (about, kind)
        ) WITH (autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 5000,
            autovacuum_vacuum_cost_delay = 0)
    """)
    # What is due is found in an index of what is pending only, however many rows are finished.
    op.execute("CREATE INDEX notification_due ON notification (priority, due_at) WHERE state = 'pending'")
    op.execute("CREATE INDEX notification_user ON notification (user_id, id) WHERE user_id IS NOT NULL")
    op.execute("CREATE INDEX notification_order ON notification (order_id, id) WHERE order_id IS NOT NULL")
    op.execute(
        "CREATE INDEX notification_ownerless ON notification (id) WHERE user_id IS NULL AND order_id IS NOT NULL"
    )
    op.execute("CREATE INDEX notification_failed ON notification (id) WHERE state = 'failed'")
    op.execute("""
        CREATE TABLE preference (
            user_id uuid PRIMARY KEY,
            channel text NOT NULL DEFAULT 'email' CHECK (channel IN ('email', 'sms', 'log')),
            phone text,
            opt_out text[] NOT NULL DEFAULT '{}',
            version int NOT NULL DEFAULT 0,
            CHECK (channel <> 'sms' OR phone IS NOT NULL)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE preference, notification")
