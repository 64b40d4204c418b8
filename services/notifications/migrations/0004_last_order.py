"""The last order of each user whose notification of it was deleted for its age: campaigns still know who has ordered
long ago.
"""

from alembic import op

revision = "notifications0004"
down_revision = "notifications0003"


def upgrade() -> None:
    op.execute("CREATE TABLE last_order (user_id uuid PRIMARY KEY, notification_id uuid NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE last_order")
