"""Whose command a saga follows: a cancellation's steps are taken by messages of others, and are still the act of
whoever cancelled.
"""

from alembic import op

revision = "processing0002"
down_revision = "processing0001"


def upgrade() -> None:
    op.execute("ALTER TABLE saga ADD COLUMN actor text, ADD COLUMN traceparent text, ADD COLUMN cause uuid")


def downgrade() -> None:
    op.execute("ALTER TABLE saga DROP COLUMN actor, DROP COLUMN traceparent, DROP COLUMN cause")
