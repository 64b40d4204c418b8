"""Sessions that begin at an outside issuer: the sealed ID token, and which sign-ins were finished."""

from alembic import op

revision = "identity0006"
down_revision = "identity0005"


def upgrade() -> None:
    op.execute("ALTER TABLE session ADD COLUMN id_token text")
    op.execute("CREATE UNLOGGED TABLE used_state (fingerprint bytea PRIMARY KEY, expires_at timestamptz NOT NULL)")
    op.execute("CREATE INDEX used_state_expiry ON used_state (expires_at)")


def downgrade() -> None:
    op.execute("DROP TABLE used_state")
    op.execute("ALTER TABLE session DROP COLUMN id_token")
