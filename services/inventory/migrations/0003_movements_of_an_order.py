"""An order's timeline finds the movements that were made for it. Ids sort by time, as movements do, so that an index of
ranges is enough: a row that is written costs nothing more.
"""

from alembic import op

revision = "inventory0003"
down_revision = "inventory0002"
branch_labels = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX movement_order ON movement USING brin (order_id)"
        " WITH (pages_per_range = 32, autosummarize = true)"
    )


def downgrade() -> None:
    op.execute("DROP INDEX movement_order")
