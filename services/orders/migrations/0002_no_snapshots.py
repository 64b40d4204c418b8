"""Nothing ever read or wrote snapshots: an order has about five events, and folding them costs less than a second table
to keep true.
"""

from alembic import op

revision = "orders0002"
down_revision = "orders0001"


def upgrade() -> None:
    op.execute("DROP TABLE IF EXISTS snapshot")


def downgrade() -> None:
    """Nothing to bring back."""
