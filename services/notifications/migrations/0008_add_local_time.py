"""Where users live, campaigns in local time and with recommendations, and when held messages were due."""

from alembic import op

revision = "notifications0008"
down_revision = "notifications0007"


def upgrade() -> None:
    op.execute("ALTER TABLE campaign ADD COLUMN local_time boolean DEFAULT false NOT NULL")
    op.execute("ALTER TABLE campaign ADD COLUMN with_recommendations boolean DEFAULT false NOT NULL")
    op.execute("ALTER TABLE notification ADD COLUMN held_due_at timestamp with time zone")
    op.execute("ALTER TABLE preference ADD COLUMN time_zone text")


def downgrade() -> None:
    op.execute("ALTER TABLE campaign DROP COLUMN local_time")
    op.execute("ALTER TABLE campaign DROP COLUMN with_recommendations")
    op.execute("ALTER TABLE notification DROP COLUMN held_due_at")
    op.execute("ALTER TABLE preference DROP COLUMN time_zone")
