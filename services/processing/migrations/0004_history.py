"""The steps that a saga has taken, each with its cause: the row alone tells where it stands, not how it came there."""

from alembic import op

revision = "processing0004"
down_revision = "processing0003"


def upgrade() -> None:
    op.execute("ALTER TABLE saga ADD COLUMN history json NOT NULL DEFAULT '[]'")


def downgrade() -> None:
    op.execute("ALTER TABLE saga DROP COLUMN history")
