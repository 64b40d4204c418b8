"""Accounts of an outside issuer's users: who they are there, and from when on its tokens are good."""

from alembic import op

revision = "identity0005"
down_revision = "identity0004"


def upgrade() -> None:
    op.execute("""
        ALTER TABLE account
            ADD COLUMN external_issuer text,
            ADD COLUMN external_subject text,
            ADD COLUMN external_signed_in_at timestamptz,
            ADD COLUMN external_valid_from timestamptz,
            ADD CONSTRAINT account_external UNIQUE (external_issuer, external_subject),
            ADD CONSTRAINT account_external_check CHECK ((external_issuer IS NULL) = (external_subject IS NULL))
    """)


def downgrade() -> None:
    op.execute("""
        ALTER TABLE account
            DROP COLUMN external_issuer,
            DROP COLUMN external_subject,
            DROP COLUMN external_signed_in_at,
            DROP COLUMN external_valid_from
    """)
