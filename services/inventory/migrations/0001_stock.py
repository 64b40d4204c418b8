"""Stock per sku, its ledger, and the reservations of orders. The laws stand as constraints: no statement can break
them, whoever sends it.
"""

from alembic import op

revision = "inventory0001"
down_revision = None
branch_labels = ("inventory",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE stock (
            sku text PRIMARY KEY,
            on_hand bigint NOT NULL DEFAULT 0 CHECK (on_hand >= 0),
            reserved bigint NOT NULL DEFAULT 0 CHECK (reserved >= 0),
            shipped bigint NOT NULL DEFAULT 0 CHECK (shipped >= 0),
            received bigint NOT NULL DEFAULT 0 CHECK (received >= 0),
            adjusted bigint NOT NULL DEFAULT 0,
            version bigint NOT NULL DEFAULT 0,
            announced bigint NOT NULL DEFAULT 0,
            CONSTRAINT stock_not_oversold CHECK (reserved <= on_hand),
            CONSTRAINT stock_law CHECK (on_hand + shipped = received + adjusted)
        ) WITH (fillfactor = 50, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute(
        "COMMENT ON COLUMN stock.on_hand IS 'units physically here, the reserved ones among them; on_hand - reserved "
        "is available'"
    )
    op.execute("COMMENT ON COLUMN stock.adjusted IS 'sum of adjustments and of what counts found more or less'")
    op.execute(
        "COMMENT ON COLUMN stock.version IS 'number of movements of this sku; announced: the version last sent to "
        "stock-changed'"
    )
    op.execute("""
        CREATE TABLE movement (
            sku text NOT NULL,
            version bigint NOT NULL CHECK (version > 0),
            kind text NOT NULL CHECK (kind IN ('receive', 'adjust', 'count', 'return', 'reserve', 'release', 'ship')),
            quantity bigint NOT NULL,
            on_hand bigint NOT NULL,
            reserved bigint NOT NULL,
            order_id uuid,
            actor text NOT NULL,
            reason text NOT NULL,
            time timestamptz NOT NULL,
            PRIMARY KEY (sku, version)
        )
    """)
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER movement_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON movement
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """)
    op.execute("""
        CREATE TABLE reservation (
            order_id uuid PRIMARY KEY,
            state text NOT NULL CHECK (state IN ('held', 'released', 'shipped', 'rejected')),
            lines json NOT NULL,
            shortages json NOT NULL,
            reason text NOT NULL,
            expires_at timestamptz,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL
        ) WITH (fillfactor = 70, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute(
        "CREATE INDEX reservation_expiring ON reservation (expires_at) WHERE state = 'held' AND expires_at IS NOT NULL"
    )


def downgrade() -> None:
    op.execute("DROP TABLE reservation, movement, stock")
    op.execute("DROP FUNCTION refuse_change")
