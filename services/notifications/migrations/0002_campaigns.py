"""Campaigns, their runs, and whom they can reach; a third priority for their mails, which nothing else waits behind."""

from alembic import op

revision = "notifications0002"
down_revision = "notifications0001"


def upgrade() -> None:
    op.execute("ALTER TABLE notification DROP CONSTRAINT notification_priority_check")
    op.execute(
        "ALTER TABLE notification ADD CONSTRAINT notification_priority_check CHECK (priority IN ('critical', "
        "'standard', 'bulk'))"
    )
    op.execute("ALTER TABLE notification ADD COLUMN run_id uuid")
    op.execute("CREATE INDEX notification_run ON notification (run_id, state) WHERE run_id IS NOT NULL")
    op.execute("""
        CREATE TABLE recipient (
            user_id uuid PRIMARY KEY,
            email text NOT NULL,
            name text NOT NULL,
            active boolean NOT NULL,
            version int NOT NULL,
            registered_at timestamptz NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE campaign (
            id uuid PRIMARY KEY,
            name text NOT NULL,
            subject text NOT NULL,
            text text NOT NULL,
            segment json NOT NULL,
            cron text,
            time_zone text NOT NULL,
            next_at timestamptz,
            stopped boolean NOT NULL DEFAULT false,
            created_by text NOT NULL,
            created_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX campaign_next ON campaign (next_at) WHERE next_at IS NOT NULL AND NOT stopped")
    op.execute("""
        CREATE TABLE campaign_run (
            id uuid PRIMARY KEY,
            campaign_id uuid NOT NULL REFERENCES campaign,
            due_at timestamptz NOT NULL,
            state text NOT NULL CHECK (state IN ('writing', 'written', 'missed')),
            position uuid,
            recipients int NOT NULL DEFAULT 0,
            written int NOT NULL DEFAULT 0,
            started_at timestamptz NOT NULL,
            moved_at timestamptz NOT NULL,
            CONSTRAINT campaign_run_once UNIQUE (campaign_id, due_at)
        )
    """)
    op.execute("CREATE INDEX campaign_run_writing ON campaign_run (moved_at) WHERE state = 'writing'")


def downgrade() -> None:
    op.execute("DROP TABLE campaign_run, campaign, recipient")
    op.execute("DELETE FROM notification WHERE priority = 'bulk'")
    op.execute("ALTER TABLE notification DROP COLUMN run_id, DROP CONSTRAINT notification_priority_check")
    op.execute(
        "ALTER TABLE notification ADD CONSTRAINT notification_priority_check CHECK (priority IN ('critical', "
        "'standard'))"
    )
