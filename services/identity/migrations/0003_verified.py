"""Whether an e-mail address is known to be its user's. Accounts of before count as verified: they have been written to
all along.
"""

from alembic import op

revision = "identity0003"
down_revision = "identity0002"


def upgrade() -> None:
    op.execute("ALTER TABLE account ADD COLUMN verified_at timestamptz, ADD COLUMN verification_mailed_at timestamptz")
    op.execute("UPDATE account SET verified_at = created_at")


def downgrade() -> None:
    op.execute("ALTER TABLE account DROP COLUMN verified_at, DROP COLUMN verification_mailed_at")
