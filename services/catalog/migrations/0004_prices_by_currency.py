"""Products in the order of their prices, currency by currency. The index of prices alone goes with the release after
this one, when nobody reads by it any more.
"""

from alembic import op

revision = "catalog0004"
down_revision = "catalog0003"


def upgrade() -> None:
    op.execute(
        "CREATE INDEX product_price_in_currency ON product ((currency || lpad(price::text, 19, '0')), sku) WHERE active"
    )


def downgrade() -> None:
    op.execute("DROP INDEX product_price_in_currency")
