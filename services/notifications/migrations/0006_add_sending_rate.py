"""The sending rate of campaigns, which all replicas share."""

from alembic import op

revision = "notifications0006"
down_revision = "notifications0005"


def upgrade() -> None:
    op.execute("""
CREATE TABLE sending_rate (
    priority text NOT NULL,
    spent_until timestamp with time zone NOT NULL
)
""")
    op.execute("ALTER TABLE sending_rate ADD CONSTRAINT sending_rate_pkey PRIMARY KEY (priority)")


def downgrade() -> None:
    op.execute("DROP TABLE sending_rate CASCADE")
