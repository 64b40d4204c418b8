"""The write side: the event streams of orders."""

from alembic import op

from caravan.events import TABLES

revision = "orders0001"
down_revision = None
branch_labels = ("orders",)


def upgrade() -> None:
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE event")
    op.execute("DROP FUNCTION refuse_change")
