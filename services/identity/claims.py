"""What an outside issuer's verified token says of a user, in this shop's words: who it is there, the e-mail address, a
name that mails may hold, and the role that the groups give.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from caravan.email_address import parse_email_address
from caravan.errors import Unauthorized
from caravan.text import WITHOUT_CONTROLS
from caravan.token_issuers import LEEWAY_SECONDS
from services.identity.messages import UserRole
from services.identity.schemas import Name
from services.identity.settings import Settings

MAX_SUBJECT_LENGTH = 255
DEFAULT_NAME = "New user"
_ROLES: tuple[UserRole, ...] = ("customer", "staff", "admin")
"""Each may do what the ones before it may."""
_NAME = TypeAdapter[str](Name)


@dataclass(frozen=True, slots=True)
class ExternalProfile:
    issuer: str
    subject: str
    issued_at: datetime
    email: str | None
    """None when the token has no address, or one that mails can't be sent to."""
    is_email_verified: bool
    name: str
    role: UserRole | None
    """None for who is in none of the groups that may use the shop."""


def read_profile(claims: Mapping[str, Any], settings: Settings, now: float) -> ExternalProfile:
    """Raises Unauthorized when the claims name nobody, or not when they were issued."""
    subject, issued_at = claims.get("sub"), claims.get("iat")
    if not isinstance(subject, str) or len(subject) > MAX_SUBJECT_LENGTH or not re.match(WITHOUT_CONTROLS, subject):
        raise Unauthorized(f"the token's sub must name its user in 1 to {MAX_SUBJECT_LENGTH} characters")
    if not isinstance(issued_at, int | float) or not 0 <= issued_at <= now + LEEWAY_SECONDS:
        raise Unauthorized("the token's iat must say when it was issued")
    return ExternalProfile(
        issuer=settings.oidc_issuer,
        subject=subject,
        issued_at=datetime.fromtimestamp(int(issued_at), UTC),
        email=_read_email(claims.get("email")),
        is_email_verified=claims.get("email_verified") in (True, "true"),  # Cognito writes a string
        name=_choose_name(claims),
        role=_choose_role(claims, settings),
    )


def _read_email(claim: object) -> str | None:
    try:
        return parse_email_address(claim) if isinstance(claim, str) else None
    except ValueError:
        return None


def _choose_name(claims: Mapping[str, Any]) -> str:
    """The first of the claims that a mail may hold: nobody gets the shop to send an advertisement."""
    for claim in ("name", "preferred_username", "given_name"):
        try:
            return _NAME.validate_python(claims.get(claim), strict=True)
        except ValidationError:
            continue
    return DEFAULT_NAME


def _choose_role(claims: Mapping[str, Any], settings: Settings) -> UserRole | None:
    claim = claims.get(settings.oidc_groups_claim)
    groups = [claim] if isinstance(claim, str) else claim if isinstance(claim, list) else []
    roles = {settings.oidc_roles[group] for group in groups if isinstance(group, str) and group in settings.oidc_roles}
    if roles:
        return max(roles, key=_ROLES.index)
    return None if settings.oidc_default_role == "none" else settings.oidc_default_role
