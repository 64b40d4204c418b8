"""What identity answers to other services."""

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from caravan.auth import Role
from caravan.client import Operation
from caravan.refusals import Refusal


class KeySetRequest(BaseModel):
    """The present key set; `kid` is the key that is looked for, which an outside issuer may have made a moment ago."""

    kid: str = ""


class ExternalKeySet(BaseModel):
    """The outside issuer whose access tokens for `audience` are accepted. No keys: they could not be fetched yet."""

    issuer: str
    audience: str
    algorithms: list[str]
    keys: list[dict[str, Any]]


class KeySet(BaseModel):
    """JWKs of the keys that tokens may be signed with now, and the issuer's name in them."""

    issuer: str
    keys: list[dict[str, Any]]
    external: ExternalKeySet | None = None


class AcceptTokenRequest(BaseModel):
    token: str


class AcceptedToken(BaseModel):
    """Whose an outside issuer's access token is: a user of this shop, made by the first of these tokens."""

    subject: str
    role: Role
    session: str


class CustomerStatusRequest(BaseModel):
    user_id: UUID


class CustomerStatus(BaseModel):
    """Whether a user may order, and how to reach them."""

    user_id: UUID
    email: str
    name: str
    role: str
    active: bool


class SessionStateRequest(BaseModel):
    session: str
    subject: str


class SessionState(BaseModel):
    """Whether tokens of a session are still good: false after logout, password change, reuse of a refresh token, or
    when the user is disabled.
    """

    active: bool


GET_KEY_SET = Operation("identity", "keys", KeySetRequest, KeySet)
ACCEPT_TOKEN = Operation("identity", "accept_token", AcceptTokenRequest, AcceptedToken)
"""Raises Unauthorized for a token that is not good, and for a user who may not sign in."""
GET_CUSTOMER_STATUS = Operation("identity", "standing", CustomerStatusRequest, CustomerStatus)
"""Raises NotFound for an unknown user."""
GET_SESSION_STATE = Operation("identity", "session", SessionStateRequest, SessionState)


class EnsureAdminRequest(BaseModel):
    email: str
    password: str | None


class EnsureAdminResult(BaseModel):
    """`generated` is the password that was made now; None when one was given, or the shop has an admin already."""

    generated: str | None


ENSURE_ADMIN = Operation("identity", "ensure_admin", EnsureAdminRequest, EnsureAdminResult, seconds=10.0)


class AdminAction(BaseModel):
    """An administrator's action that no database shows: recorded before it begins (`begun`), and afterwards with its
    result.
    """

    action: str = Field(max_length=100)
    target: str = Field(max_length=400)
    result: Literal["begun", "done", "refused", "failed"]
    details: dict[str, str | int] = {}


class Disclosure(BaseModel):
    """Personal data that somebody has asked to see, such as those of `order:<id>`."""

    subject: str = Field(max_length=400)


class AuditReceipt(BaseModel):
    """It is in the audit log."""


class Refusals(BaseModel):
    items: list[Refusal] = Field(max_length=200)


RECORD_ADMIN_ACTION = Operation("identity", "record_admin_action", AdminAction, AuditReceipt, is_repeatable=False)
"""In the name of the admin whose token comes along; nobody else's is written down."""
RECORD_DISCLOSURE = Operation("identity", "record_disclosure", Disclosure, AuditReceipt, is_repeatable=False)
"""In the name of the member of staff whose token comes along."""
RECORD_REFUSALS = Operation("identity", "record_refusals", Refusals, AuditReceipt, is_repeatable=False)
