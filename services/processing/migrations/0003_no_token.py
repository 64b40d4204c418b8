"""Sagas don't keep a payment's token: the order that they remember had one once."""

from alembic import op

revision = "processing0003"
down_revision = "processing0002"


def upgrade() -> None:
    op.execute(
        "UPDATE saga SET created = (created::jsonb - 'payment_token')::json WHERE created::jsonb ? 'payment_token'"
    )


def downgrade() -> None:
    pass
