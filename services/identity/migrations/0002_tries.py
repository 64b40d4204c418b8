"""Counters of failed tries that leak, each with how many are free; and from where an account was registered, which
knows its owner.
"""

from alembic import op

revision = "identity0002"
down_revision = "identity0001"


def upgrade() -> None:
    op.execute("ALTER TABLE account ADD COLUMN registered_from text")
    op.execute("DROP TABLE attempt")
    op.execute("""
        CREATE UNLOGGED TABLE attempt (
            key bytea PRIMARY KEY,
            free int NOT NULL,
            level double precision NOT NULL,
            last_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX attempt_last_at ON attempt (last_at)")


def downgrade() -> None:
    op.execute("ALTER TABLE account DROP COLUMN registered_from")
    op.execute("DROP TABLE attempt")
    op.execute(
        "CREATE UNLOGGED TABLE attempt (key bytea PRIMARY KEY, failures int NOT NULL, last_at timestamptz NOT NULL)"
    )
    op.execute("CREATE INDEX attempt_last_at ON attempt (last_at)")
