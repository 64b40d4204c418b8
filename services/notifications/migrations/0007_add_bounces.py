"""Addresses to which mail came back, and how often staff sent a notification again."""

from alembic import op

revision = "notifications0007"
down_revision = "notifications0006"


def upgrade() -> None:
    op.execute("""
CREATE TABLE undeliverable_address (
    address text NOT NULL,
    cause text NOT NULL,
    reason text NOT NULL,
    noted_at timestamp with time zone NOT NULL
)
""")
    op.execute("ALTER TABLE undeliverable_address ADD CONSTRAINT undeliverable_address_pkey PRIMARY KEY (address)")
    op.execute(
        "ALTER TABLE undeliverable_address ADD CONSTRAINT undeliverable_address_cause_check CHECK (cause "
        "= ANY (ARRAY['bounce'::text, 'complaint'::text]))"
    )
    op.execute("ALTER TABLE notification ADD COLUMN resends smallint DEFAULT 0 NOT NULL")
    op.execute("CREATE INDEX recipient_email ON recipient USING btree (email)")


def downgrade() -> None:
    op.execute("DROP TABLE undeliverable_address CASCADE")
    op.execute("DROP INDEX recipient_email")
    op.execute("ALTER TABLE notification DROP COLUMN resends")
