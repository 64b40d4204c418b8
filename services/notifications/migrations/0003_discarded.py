"""A notification that failed and was discarded by an operator stays in the history, and is no failure any more."""

from alembic import op

revision = "notifications0003"
down_revision = "notifications0002"


def upgrade() -> None:
    op.execute("ALTER TABLE notification ADD COLUMN discarded_at timestamptz")
    op.execute(
        "CREATE INDEX notification_given_up ON notification (due_at, id) WHERE state = 'failed' AND discarded_at IS "
        "NULL"
    )


def downgrade() -> None:
    op.execute("DROP INDEX notification_given_up")
    op.execute("ALTER TABLE notification DROP COLUMN discarded_at")
