"""Cases, comparisons, and the copy of the provider's books."""

from alembic import op

revision = "reconciliation0001"
down_revision = None
branch_labels = ("reconciliation",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE run (
            id uuid PRIMARY KEY,
            mode text NOT NULL CHECK (mode IN ('changes', 'full')),
            state text NOT NULL CHECK (state IN ('requested', 'running', 'done', 'failed')),
            requested_by text NOT NULL DEFAULT '',
            requested_at timestamptz NOT NULL,
            started_at timestamptz,
            finished_at timestamptz,
            watermark timestamptz,
            held_by text NOT NULL DEFAULT '',
            orders bigint NOT NULL DEFAULT 0,
            products bigint NOT NULL DEFAULT 0,
            opened integer NOT NULL DEFAULT 0,
            closed integer NOT NULL DEFAULT 0,
            reason text NOT NULL DEFAULT ''
        )
    """)
    op.execute("CREATE INDEX run_open ON run (id) WHERE state IN ('requested', 'running')")
    op.execute("""
        CREATE TABLE progress (
            id integer PRIMARY KEY CONSTRAINT progress_check CHECK (id = 1),
            holder text NOT NULL DEFAULT '',
            held_until timestamptz,
            event_transaction bigint NOT NULL DEFAULT 0,
            event_position bigint NOT NULL DEFAULT 0,
            statement_time timestamptz,
            statement_key text NOT NULL DEFAULT '',
            scanned_at timestamptz,
            full_at timestamptz,
            tested_at timestamptz,
            untested integer NOT NULL DEFAULT 0
        )
    """)
    op.execute("CREATE TABLE watched_order (order_id uuid PRIMARY KEY, noticed_at timestamptz NOT NULL)")
    op.execute("""
        CREATE TABLE provider_entry (
            key text PRIMARY KEY,
            order_id uuid,
            kind text NOT NULL,
            outcome text NOT NULL,
            amount bigint NOT NULL,
            currency text NOT NULL,
            at timestamptz NOT NULL,
            read_in uuid NOT NULL
        )
    """)
    op.execute("CREATE INDEX provider_entry_order ON provider_entry (order_id)")
    op.execute("CREATE INDEX provider_entry_foreign ON provider_entry (key) WHERE order_id IS NULL")
    op.execute("CREATE INDEX provider_entry_time ON provider_entry USING brin (at)")
    op.execute("""
        CREATE TABLE checked_stock (
            sku text PRIMARY KEY,
            version bigint NOT NULL,
            on_hand bigint NOT NULL,
            reserved bigint NOT NULL,
            shipped bigint NOT NULL,
            received bigint NOT NULL,
            adjusted bigint NOT NULL
        )
    """)
    op.execute("""
        CREATE TABLE gap_case (
            id uuid PRIMARY KEY,
            gap_class text NOT NULL,
            subject text NOT NULL,
            order_id uuid,
            amount bigint NOT NULL,
            currency text NOT NULL,
            details json NOT NULL,
            state text NOT NULL CONSTRAINT gap_case_state_check
                CHECK (state IN ('open', 'awaiting_approval', 'repairing', 'resolved', 'closed', 'dismissed')),
            version integer NOT NULL,
            proposed_by text,
            opened_at timestamptz NOT NULL,
            seen_at timestamptz NOT NULL,
            changed_at timestamptz NOT NULL
        )
    """)
    op.execute(
        "CREATE UNIQUE INDEX gap_case_unsettled ON gap_case (gap_class, subject)"
        " WHERE state IN ('open', 'awaiting_approval', 'repairing')"
    )
    op.execute("CREATE INDEX gap_case_order ON gap_case (order_id) WHERE order_id IS NOT NULL")
    op.execute("CREATE INDEX gap_case_dismissed ON gap_case (gap_class, subject) WHERE state = 'dismissed'")
    op.execute("CREATE INDEX gap_case_opened ON gap_case (opened_at, id)")
    op.execute("""
        CREATE TABLE case_step (
            case_id uuid NOT NULL REFERENCES gap_case (id),
            version integer NOT NULL,
            state text NOT NULL,
            actor text NOT NULL,
            reason text NOT NULL,
            time timestamptz NOT NULL,
            PRIMARY KEY (case_id, version)
        )
    """)


def downgrade() -> None:
    op.execute("DROP TABLE case_step, gap_case, checked_stock, provider_entry, watched_order, progress, run")
