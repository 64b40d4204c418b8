"""The drawn invoices. An invoice whose `drawn` is not its `revision` is to be drawn; a refund makes a new revision."""

from alembic import op

revision = "payments0003"
down_revision = "payments0002"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE invoice ADD COLUMN revision int NOT NULL DEFAULT 1, ADD COLUMN drawn int NOT NULL DEFAULT 0"
    )
    op.execute("CREATE INDEX invoice_undrawn ON invoice (number) WHERE drawn <> revision")
    op.execute(
        "CREATE TABLE invoice_document (order_id uuid PRIMARY KEY REFERENCES invoice (order_id), revision int NOT "
        "NULL, pdf bytea NOT NULL)"
    )
    # A PDF is compressed already.
    op.execute("ALTER TABLE invoice_document ALTER COLUMN pdf SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.execute("DROP TABLE invoice_document")
    op.execute("ALTER TABLE invoice DROP COLUMN revision, DROP COLUMN drawn")
