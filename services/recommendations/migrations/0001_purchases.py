"""What recommendations knows: products, purchases, and what is counted from them."""

from alembic import op

revision = "recommendations0001"
down_revision = None
branch_labels = ("recommendations",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE product (
            sku text COLLATE "C" PRIMARY KEY,
            name text,
            category text,
            active boolean NOT NULL DEFAULT false,
            product_version int NOT NULL DEFAULT 0,
            available bigint NOT NULL DEFAULT 0,
            stock_version bigint NOT NULL DEFAULT 0,
            turned_version bigint NOT NULL DEFAULT 0
        ) WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    # A purchase is updated twice within seconds of being made: room in the page keeps the new versions there, and
    # nothing that changes is indexed.
    op.execute("""
        CREATE TABLE purchase (
            order_id uuid PRIMARY KEY,
            user_id uuid NOT NULL,
            skus text[] COLLATE "C",
            placed_at timestamptz,
            outcome text,
            cancelled boolean NOT NULL DEFAULT false,
            counted boolean NOT NULL DEFAULT false
        ) WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX purchase_user ON purchase (user_id, placed_at DESC)")
    op.execute("""
        CREATE TABLE sold (sku text COLLATE "C" PRIMARY KEY, orders bigint NOT NULL)
            WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("""
        CREATE TABLE pair (
            sku text COLLATE "C" NOT NULL,
            other text COLLATE "C" NOT NULL,
            orders bigint NOT NULL,
            PRIMARY KEY (sku, other),
            CHECK (sku < other)
        ) WITH (fillfactor = 60, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX pair_other ON pair (other, sku)")


def downgrade() -> None:
    op.execute("DROP TABLE pair, sold, purchase, product")
