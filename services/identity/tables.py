"""The tables of identity: the one source of their shape. `migrations/` brings a database there."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text

from caravan.database import tables as sql
from caravan.database.tables import DeclaredTable, define_column, define_registry


class IdentityTable(DeclaredTable, registry=define_registry("identity")):
    pass


class Account(IdentityTable, table=True):
    __tablename__ = "account"
    __table_args__ = (
        UniqueConstraint("email", name="account_email"),
        CheckConstraint("email = lower(email) AND length(email) BETWEEN 3 AND 254", name="account_email_check"),
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="account_name_check"),
        CheckConstraint("role IN ('customer', 'staff', 'admin')", name="account_role_check"),
        CheckConstraint("password LIKE '$argon2id$%'", name="account_password_check"),
        CheckConstraint("(password_set_at IS NULL) = (password IS NULL)", name="account_check"),
        UniqueConstraint("external_issuer", "external_subject", name="account_external"),
        CheckConstraint("(external_issuer IS NULL) = (external_subject IS NULL)", name="account_external_check"),
        Index("account_admin", "id", postgresql_where=text("role = 'admin'")),
    )

    id: UUID = define_column(sql.UUID, primary_key=True)
    email: str = define_column(sql.TEXT)
    name: str = define_column(sql.TEXT)
    role: str = define_column(sql.TEXT)
    disabled: bool = define_column(sql.BOOLEAN, default="false")
    version: int = define_column(sql.INTEGER, default="1")
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    updated_at: datetime = define_column(sql.TIMESTAMPTZ)
    password: str | None = define_column(sql.TEXT)
    password_set_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    registered_from: str | None = define_column(sql.TEXT)
    verified_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    verification_mailed_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    verification_mails: int = define_column(sql.SMALLINT, default="0")
    external_issuer: str | None = define_column(sql.TEXT)
    external_subject: str | None = define_column(sql.TEXT)
    external_signed_in_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    external_valid_from: datetime | None = define_column(sql.TIMESTAMPTZ)


class Session(IdentityTable, table=True):
    __tablename__ = "session"
    __table_args__ = (Index("session_of_account", "account_id", "network"), Index("session_expiry", "expires_at"))

    id: UUID = define_column(sql.UUID, primary_key=True)
    account_id: UUID = define_column(sql.UUID, ForeignKey("account.id"))
    generation: int = define_column(sql.INTEGER, default="1")
    network: str = define_column(sql.TEXT)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    used_at: datetime = define_column(sql.TIMESTAMPTZ)
    expires_at: datetime = define_column(sql.TIMESTAMPTZ)
    revoked_at: datetime | None = define_column(sql.TIMESTAMPTZ)
    revoked_because: str | None = define_column(sql.TEXT)
    id_token: str | None = define_column(sql.TEXT)


class SigningKey(IdentityTable, table=True):
    __tablename__ = "signing_key"

    kid: str = define_column(sql.TEXT, primary_key=True)
    public: dict[str, Any] = define_column(sql.JSON)
    sealed: bytes = define_column(sql.BYTEA)
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    signs_from: datetime = define_column(sql.TIMESTAMPTZ, unique=True)


class ResetRequest(IdentityTable, table=True):
    __tablename__ = "reset_request"

    email: str = define_column(sql.TEXT, primary_key=True)
    requested_at: datetime = define_column(sql.TIMESTAMPTZ)


class ResetLink(IdentityTable, table=True):
    __tablename__ = "reset_link"
    __table_args__ = (Index("reset_link_of_account", "account_id", "created_at"),)

    fingerprint: bytes = define_column(sql.BYTEA, primary_key=True)
    account_id: UUID = define_column(sql.UUID, ForeignKey("account.id"))
    created_at: datetime = define_column(sql.TIMESTAMPTZ)
    expires_at: datetime = define_column(sql.TIMESTAMPTZ)
    used_at: datetime | None = define_column(sql.TIMESTAMPTZ)


class UsedState(IdentityTable, table=True):
    """Unlogged: what a crash of the database forgets, the issuer's code is for one use, too."""

    __tablename__ = "used_state"
    __table_args__ = (Index("used_state_expiry", "expires_at"), {"prefixes": ["UNLOGGED"]})

    fingerprint: bytes = define_column(sql.BYTEA, primary_key=True)
    expires_at: datetime = define_column(sql.TIMESTAMPTZ)


class Attempt(IdentityTable, table=True):
    """Unlogged: a crash of the database forgives failed attempts, and an attack doesn't fill the log."""

    __tablename__ = "attempt"
    __table_args__ = (Index("attempt_last_at", "last_at"), {"prefixes": ["UNLOGGED"]})

    key: bytes = define_column(sql.BYTEA, primary_key=True)
    free: int = define_column(sql.INTEGER)
    level: float = define_column(sql.DOUBLE_PRECISION)
    last_at: datetime = define_column(sql.TIMESTAMPTZ)
