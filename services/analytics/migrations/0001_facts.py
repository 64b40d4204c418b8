"""What analytics knows: a fact per order, its lines, the audit log, and the daily reports."""

from alembic import op

revision = "analytics0001"
down_revision = None
branch_labels = ("analytics",)


def upgrade() -> None:
    # A fact is updated about five times within seconds of being made: room in the page keeps the new versions there,
    # and nothing that changes is indexed.
    op.execute("""
        CREATE TABLE order_fact (
            order_id uuid PRIMARY KEY,
            user_id uuid,
            placed_at timestamptz,
            total bigint,
            currency text,
            units bigint,
            outcome text,
            processed_at timestamptz,
            captured bigint NOT NULL DEFAULT 0,
            paid_at timestamptz,
            refunded bigint NOT NULL DEFAULT 0,
            refunded_at timestamptz,
            shipped_at timestamptz,
            delivered_at timestamptz,
            cancelled_at timestamptz
        ) WITH (fillfactor = 50, autovacuum_vacuum_cost_delay = 0)
    """)
    op.execute("CREATE INDEX order_fact_placed_at ON order_fact (placed_at)")
    op.execute("""
        CREATE TABLE order_line_fact (
            order_id uuid NOT NULL,
            line int NOT NULL,
            sku text NOT NULL,
            name text NOT NULL,
            category text NOT NULL,
            quantity bigint NOT NULL,
            unit_price bigint NOT NULL,
            PRIMARY KEY (order_id, line)
        )
    """)
    op.execute(
        "CREATE TABLE daily_report (day date PRIMARY KEY, document jsonb NOT NULL, revision int NOT NULL DEFAULT 1, "
        "written_at timestamptz NOT NULL)"
    )
    op.execute("""
        CREATE TABLE audit_record (
            id uuid PRIMARY KEY,
            time timestamptz NOT NULL,
            actor text NOT NULL,
            action text NOT NULL,
            target text NOT NULL,
            result text NOT NULL,
            details json NOT NULL,
            trace_id text
        )
    """)
    op.execute("CREATE INDEX audit_record_time ON audit_record (time, id)")
    for column in ("actor", "action", "target"):
        op.execute(f"CREATE INDEX audit_record_{column} ON audit_record ({column}, time, id)")
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit log is append-only: % on % refused', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_record FOR EACH STATEMENT "
        "EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.execute("DROP TABLE audit_record, daily_report, order_line_fact, order_fact")
    op.execute("DROP FUNCTION refuse_change")
