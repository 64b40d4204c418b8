"""Products as documents with full text search, the categories' rules, and who waits for news of a product."""

from alembic import op

revision = "catalog0001"
down_revision = None
branch_labels = ("catalog",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE product (
            sku text PRIMARY KEY,
            name text NOT NULL,
            description text NOT NULL,
            category text NOT NULL,
            price bigint NOT NULL CHECK (price > 0),
            currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
            attributes jsonb NOT NULL,
            active boolean NOT NULL,
            version int NOT NULL CHECK (version > 0),
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            search tsvector NOT NULL GENERATED ALWAYS AS (
                setweight(to_tsvector('simple', sku), 'A') || setweight(to_tsvector('english', name), 'A')
                || setweight(to_tsvector('english', category), 'B')
                || setweight(to_tsvector('english', description), 'C')
            ) STORED
        )
    """)
    op.execute("CREATE INDEX product_search ON product USING gin (search)")
    op.execute("CREATE INDEX product_attributes ON product USING gin (attributes jsonb_path_ops)")
    op.execute("CREATE INDEX product_sku_prefix ON product (lower(sku) text_pattern_ops)")
    op.execute("CREATE INDEX product_newest ON product (created_at DESC, sku DESC) WHERE active")
    op.execute("CREATE INDEX product_category ON product (category, created_at DESC, sku DESC) WHERE active")
    op.execute("CREATE INDEX product_name ON product (left(name, 60), sku) WHERE active")
    op.execute("CREATE INDEX product_price ON product (price, sku) WHERE active")
    op.execute("""
        CREATE TABLE category (
            name text PRIMARY KEY,
            attributes json NOT NULL,
            free boolean NOT NULL,
            version int NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE watch (
            id uuid PRIMARY KEY,
            sku text NOT NULL,
            user_id uuid NOT NULL,
            email text NOT NULL,
            since timestamptz NOT NULL,
            UNIQUE (sku, user_id)
        )
    """)
    op.execute("""
        CREATE TABLE alert (
            sku text NOT NULL,
            kind text NOT NULL CHECK (kind IN ('price_drop', 'back_in_stock')),
            data json NOT NULL,
            raised_at timestamptz NOT NULL,
            PRIMARY KEY (sku, kind)
        )
    """)
    op.execute("CREATE INDEX alert_oldest ON alert (raised_at)")
    op.execute(
        "CREATE TABLE available (sku text PRIMARY KEY, units bigint NOT NULL, stock_version bigint NOT NULL) WITH "
        "(fillfactor = 50)"
    )


def downgrade() -> None:
    op.execute("DROP TABLE available, alert, watch, category, product")
