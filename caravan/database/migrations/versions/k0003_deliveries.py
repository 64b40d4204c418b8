"""The inbox tells of a message which id it is about, its cause, its type, the attempt that succeeded, and how often it
came again: what an order's timeline is made from. What was handled before this version has none of it.
"""

from alembic import op

revision = "k0003"
down_revision = "k0002"


def upgrade() -> None:
    op.execute(
        "ALTER TABLE inbox ADD COLUMN key uuid, ADD COLUMN cause uuid, ADD COLUMN type text,"
        " ADD COLUMN attempt smallint, ADD COLUMN refused integer"
    )
    op.execute("CREATE INDEX inbox_key ON inbox (key) WHERE key IS NOT NULL")


def downgrade() -> None:
    op.execute("DROP INDEX inbox_key")
    op.execute(
        "ALTER TABLE inbox DROP COLUMN key, DROP COLUMN cause, DROP COLUMN type, DROP COLUMN attempt,"
        " DROP COLUMN refused"
    )
