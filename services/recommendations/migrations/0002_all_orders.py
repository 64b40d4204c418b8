"""How many purchases there are, in `sold` under the empty sku: what shares of all orders are counted against."""

from alembic import op

revision = "recommendations0002"
down_revision = "recommendations0001"
branch_labels = None


def upgrade() -> None:
    op.execute(
        "INSERT INTO sold (sku, orders) SELECT '', count(*) FROM purchase WHERE counted HAVING count(*) > 0"
        " ON CONFLICT (sku) DO UPDATE SET orders = EXCLUDED.orders"
    )


def downgrade() -> None:
    op.execute("DELETE FROM sold WHERE sku = ''")
