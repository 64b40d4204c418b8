"""References of movements that happen once, however long ago they were made: idempotency keys are forgotten after
days.
"""

from alembic import op

revision = "inventory0002"
down_revision = "inventory0001"
branch_labels = None


def upgrade() -> None:
    op.execute("CREATE TABLE movement_reference (reference text PRIMARY KEY, recorded_at timestamptz NOT NULL)")


def downgrade() -> None:
    op.execute("DROP TABLE movement_reference")
