"""Accounts, their sessions, signing keys, reset links, and counters of failed tries."""

from alembic import op

revision = "identity0001"
down_revision = None
branch_labels = ("identity",)


def upgrade() -> None:
    op.execute("""
        CREATE TABLE account (
            id uuid PRIMARY KEY,
            email text NOT NULL CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
            name text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
            role text NOT NULL CHECK (role IN ('customer', 'staff', 'admin')),
            disabled boolean NOT NULL DEFAULT false,
            version int NOT NULL DEFAULT 1,
            created_at timestamptz NOT NULL,
            updated_at timestamptz NOT NULL,
            password text CHECK (password LIKE '$argon2id$%'),
            password_set_at timestamptz CHECK ((password_set_at IS NULL) = (password IS NULL)),
            CONSTRAINT account_email UNIQUE (email)
        )
    """)
    op.execute("CREATE INDEX account_admin ON account (id) WHERE role = 'admin'")
    op.execute("""
        CREATE TABLE session (
            id uuid PRIMARY KEY,
            account_id uuid NOT NULL REFERENCES account,
            generation int NOT NULL DEFAULT 1,
            network text NOT NULL,
            created_at timestamptz NOT NULL,
            used_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            revoked_at timestamptz,
            revoked_because text
        )
    """)
    op.execute("CREATE INDEX session_of_account ON session (account_id, network)")
    op.execute("CREATE INDEX session_expiry ON session (expires_at)")
    op.execute("""
        CREATE TABLE signing_key (
            kid text PRIMARY KEY,
            public json NOT NULL,
            sealed bytea NOT NULL,
            created_at timestamptz NOT NULL,
            signs_from timestamptz NOT NULL UNIQUE
        )
    """)
    op.execute("CREATE TABLE reset_request (email text PRIMARY KEY, requested_at timestamptz NOT NULL)")
    op.execute("""
        CREATE TABLE reset_link (
            fingerprint bytea PRIMARY KEY,
            account_id uuid NOT NULL REFERENCES account,
            created_at timestamptz NOT NULL,
            expires_at timestamptz NOT NULL,
            used_at timestamptz
        )
    """)
    op.execute("CREATE INDEX reset_link_of_account ON reset_link (account_id, created_at)")
    # Unlogged: a crash of the database forgives failed tries, and an attack does not fill the log.
    op.execute("""
        CREATE UNLOGGED TABLE attempt (
            key bytea PRIMARY KEY,
            failures int NOT NULL,
            last_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX attempt_last_at ON attempt (last_at)")


def downgrade() -> None:
    op.execute("DROP TABLE attempt, reset_link, reset_request, signing_key, session, account")
