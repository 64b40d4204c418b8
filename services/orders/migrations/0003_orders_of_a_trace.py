"""The order that was placed in a trace is found by it: an index of the first event of each order."""

from alembic import op

revision = "orders0003"
down_revision = "orders0002"


def upgrade() -> None:
    op.execute("CREATE INDEX event_trace ON event (trace_id) WHERE version = 1")


def downgrade() -> None:
    op.execute("DROP INDEX event_trace")
