"""`held_until`: no attempt to charge begins before then, because the order is about to be cancelled."""

from alembic import op

revision = "payments0005"
down_revision = "payments0004"


def upgrade() -> None:
    op.execute("ALTER TABLE payment ADD COLUMN held_until timestamptz")


def downgrade() -> None:
    op.execute("ALTER TABLE payment DROP COLUMN held_until")
