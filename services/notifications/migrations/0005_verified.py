"""Whether a recipient's address is known to be theirs: alerts and promotional mails go to no other."""

from alembic import op

revision = "notifications0005"
down_revision = "notifications0004"


def upgrade() -> None:
    op.execute("ALTER TABLE recipient ADD COLUMN verified boolean NOT NULL DEFAULT true")


def downgrade() -> None:
    op.execute("ALTER TABLE recipient DROP COLUMN verified")
