"""The HTTP shapes of identity."""

import re
import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from caravan.email_address import EmailAddress
from caravan.passwords import MAX_LENGTH
from caravan.text import WITHOUT_CONTROLS, TextLine
from services.identity.messages import UserRole

_ADDRESS_PATTERN = re.compile(r"://|@|www\.|[^\W_]{2}\.[^\W\d_]{2}|\.\w+/|[0-9]{1,3}(?:\.[0-9]{1,3}){3}", re.IGNORECASE)
"""What a mail reader may turn into a link. A single letter before the dot is an initial."""


def _refuse_addresses(name: str) -> str:
    if _ADDRESS_PATTERN.search(unicodedata.normalize("NFKC", name).replace("。", ".")):
        raise ValueError("must be a name, without web or e-mail addresses; after a full stop write a space")
    return name


Name = Annotated[str, TextLine(100), AfterValidator(_refuse_addresses)]
"""Stands in mails: nobody gets the shop to send an advertisement by registering somebody else's address."""
NewPassword = Annotated[str, StringConstraints(min_length=10, max_length=MAX_LENGTH, pattern=WITHOUT_CONTROLS)]
PasswordInput = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Body(BaseModel):
    """A request body: unknown fields refused, no silent coercion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Registration(Body):
    email: EmailAddress = Field(examples=["ada@example.com"])
    password: NewPassword = Field(
        description="10 to 128 characters without control characters; refused when it is easily guessed",
        examples=["a long walk in Palmyra"],
    )
    name: Name = Field(examples=["Ada Lovelace"])


class Invitation(Body):
    email: EmailAddress = Field(examples=["grace@example.com"])
    name: Name = Field(examples=["Grace Hopper"])
    role: UserRole = Field("customer", examples=["staff"])


class User(BaseModel):
    """A user, as the user and admins see it."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    email: str = Field(examples=["ada@example.com"])
    name: str = Field(examples=["Ada Lovelace"])
    role: UserRole = Field(examples=["customer"])
    disabled: bool = Field(description="a disabled user can't sign in, and open sessions have ended")
    invited: bool = Field(description="made without a password; claims the account by a password reset")
    external: bool = Field(False, description="signs in with the identity provider that this shop is set to accept")
    verified: bool = Field(
        description="the e-mail address is known to be the user's; until then no alerts or promotional mails come"
    )
    created_at: datetime
    updated_at: datetime


class ProfilePatch(Body):
    """What is absent or null stays as it is."""

    name: Name | None = Field(None, examples=["Ada King"])


class UserPatch(Body):
    """What is absent or null stays as it is."""

    role: UserRole | None = Field(None, examples=["staff"])
    disabled: bool | None = Field(None, examples=[True])


class PasswordChange(Body):
    current_password: PasswordInput = Field(examples=["a long walk in Palmyra"])
    new_password: NewPassword = Field(examples=["thirteen camels at dawn"])


class ResetRequest(Body):
    email: EmailAddress = Field(examples=["ada@example.com"])


class ResetReceipt(BaseModel):
    detail: str = Field(examples=["if the address has an account, a mail with a link is on its way"])


class VerificationReceipt(BaseModel):
    detail: str = Field(examples=["a mail with a link is on its way"])


class ResetConfirmation(Body):
    token: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="from the link in the mail"
    )
    password: NewPassword = Field(examples=["thirteen camels at dawn"])


_TOKEN = {
    "type": "object",
    "required": ["token"],
    "properties": {"token": {"type": "string", "minLength": 1, "maxLength": 200, "description": "a refresh token"}},
}
REVOCATION: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": _TOKEN}, "application/x-www-form-urlencoded": {"schema": _TOKEN}},
}
"""Either content type may come, which a model can't say."""


class Tokens(BaseModel):
    """The answer of RFC 6749 §5.1; `issued_token_type` after a token exchange (RFC 8693)."""

    access_token: str = Field(
        description="EdDSA-signed JWT: send it as `Authorization: Bearer`",
        examples=["eyJhbGciOiJFZERTQSIsImtpZCI6Ii4uLiJ9.e30.c2ln"],
    )
    token_type: Literal["Bearer"] = "Bearer"
    expires_in: int = Field(description="seconds", examples=[600])
    refresh_token: str | None = Field(
        None, description="for one use: the answer brings the next one; absent for clients and after an exchange"
    )
    issued_token_type: str | None = None


class SignedOut(BaseModel):
    end_session_url: str | None = Field(
        None,
        description="where a browser signs out at the identity provider, too, at which the session began",
        examples=["https://login.example.com/logout?id_token_hint=..."],
    )


class IdentityProvider(BaseModel):
    """Where the users of this shop may sign in, other than with a password here."""

    label: str = Field(description="for the button", examples=["your company account"])
    issuer: str = Field(examples=["https://login.example.com"])
    login_path: str = Field(
        description="send the browser there, with `?return_to=` a path in this shop", examples=["/v1/auth/login"]
    )


class IdentityProviders(BaseModel):
    items: list[IdentityProvider]


class Jwks(BaseModel):
    """RFC 7517. A key is published before it signs, and until its last token has expired."""

    keys: list[dict[str, Any]] = Field(
        examples=[[{"kty": "OKP", "crv": "Ed25519", "kid": "k1", "alg": "EdDSA", "use": "sig", "x": "..."}]]
    )


class Discovery(BaseModel):
    """RFC 8414 metadata, at the address where OpenID Connect clients look. No authorization endpoint: users sign in
    with the password grant.
    """

    issuer: str
    token_endpoint: str
    revocation_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    response_types_supported: list[str]
    subject_types_supported: list[str]
    grant_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str]
    token_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
