"""How many mails have asked an address whether it is its user's: each one is farther from the last."""

from alembic import op

revision = "identity0004"
down_revision = "identity0003"


def upgrade() -> None:
    op.execute("ALTER TABLE account ADD COLUMN verification_mails smallint NOT NULL DEFAULT 0")


def downgrade() -> None:
    op.execute("ALTER TABLE account DROP COLUMN verification_mails")
