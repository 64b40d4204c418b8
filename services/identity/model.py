"""The rules of accounts, sessions, signing keys and login attempts. Time, ids and randomness come in as arguments."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any, Self
from uuid import UUID

from caravan.email_address import parse_email_address
from caravan.errors import BadRequest, Conflict, Unauthorized
from services.identity.messages import UserRole

OPERATOR_CLIENT = "cli"
"""The client that is the operator's own command line: an admin, where every other client is a service."""
CLIENT_SESSION_PREFIX = "client:"
"""Tokens of clients belong to no session of a person; theirs is named after the client."""
EXTERNAL_SESSION_PREFIX = "external:"
"""Nor do tokens of an outside issuer; theirs is named after the user and when the token was issued."""


@dataclass(frozen=True, slots=True)
class Account:
    id: UUID
    email: str
    name: str
    role: UserRole
    disabled: bool
    version: int
    created_at: datetime
    updated_at: datetime
    password: str | None
    """The argon2id hash; None for an invited user who has not claimed the account."""
    password_set_at: datetime | None
    """When the user chose it; hashing it anew does not count."""
    verified_at: datetime | None
    """Since when the e-mail address is known to be the user's."""
    external_issuer: str | None
    """Where the user signs in, other than with a password here."""

    @property
    def verified(self) -> bool:
        return self.verified_at is not None

    @property
    def is_acting_admin(self) -> bool:
        return self.role == "admin" and not self.disabled and self.password is not None


def normalize_email(email: str) -> str:
    """One spelling per mailbox: without it a second account could be made by a capital letter. What is no address
    stays, and is nobody's.
    """
    try:
        return parse_email_address(email)
    except ValueError:
        return email.strip().lower()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A session's refresh token of one generation; each use raises the generation, so that a token used before is
    recognised.

    It is authenticated, not stored: the database holds only the present generation, and a guessed or altered token is
    no token.
    """

    session: UUID
    generation: int

    def encode(self, key: bytes) -> str:
        return _seal_body(key, b"refresh token", self.session.bytes + self.generation.to_bytes(4, "big"))

    @classmethod
    def decode(cls, token: str, key: bytes) -> Self | None:
        """The token, or None for anything that this key did not write."""
        raw = _unseal_body(key, b"refresh token", token, 20)
        return cls(UUID(bytes=raw[:16]), int.from_bytes(raw[16:], "big")) if raw else None


@dataclass(frozen=True, slots=True)
class ExternalSession:
    """What an outside issuer's token is in this shop: there is no row of it, only the user's, which says from when on
    such tokens are good.
    """

    account: UUID
    issued_at: datetime

    def format_id(self) -> str:
        return f"{EXTERNAL_SESSION_PREFIX}{self.account}:{int(self.issued_at.timestamp())}"

    @classmethod
    def parse_id(cls, session: str) -> Self:
        """Raises ValueError."""
        account, _, issued_at = session.removeprefix(EXTERNAL_SESSION_PREFIX).partition(":")
        return cls(UUID(account), datetime.fromtimestamp(int(issued_at), UTC))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has logged in to an account. Delays that others' failed attempts cause don't hold it up."""

    account: UUID
    mark: bytes

    def encode(self, key: bytes) -> str:
        return _seal_body(key, b"device", self.account.bytes + self.mark)

    @classmethod
    def decode(cls, text: str, key: bytes) -> Self | None:
        """The device, or None for anything that this key did not write."""
        raw = _unseal_body(key, b"device", text, 32)
        return cls(UUID(bytes=raw[:16]), raw[16:]) if raw else None


def create_verification_token(account: Account, expires: datetime, key: bytes) -> str:
    """Good for this address and this password: whoever changes either ends it."""
    return _seal_body(
        key, _build_verification_purpose(account), account.id.bytes + int(expires.timestamp()).to_bytes(8, "big")
    )


def read_verification_account(token: str) -> UUID | None:
    """Whose link it says to be."""
    try:
        raw = _decode_base64(token.partition(".")[0])
    except ValueError:
        return None
    return UUID(bytes=raw[:16]) if len(raw) == 24 else None


def is_valid_verification(token: str, account: Account, now: datetime, key: bytes) -> bool:
    raw = _unseal_body(key, _build_verification_purpose(account), token, 24)
    return raw is not None and raw[:16] == account.id.bytes and int.from_bytes(raw[16:], "big") > now.timestamp()


def _build_verification_purpose(account: Account) -> bytes:
    return f"verification\0{account.email}\0{account.password_set_at}".encode()


def _seal_body(key: bytes, purpose: bytes, body: bytes) -> str:
    return f"{_encode_base64(body)}.{_encode_base64(_compute_seal(key, purpose, body))}"


def _unseal_body(key: bytes, purpose: bytes, text: str, length: int) -> bytes | None:
    body, _, seal = text.partition(".")
    try:
        raw, received_seal = _decode_base64(body), _decode_base64(seal)
    except ValueError:
        return None
    return raw if len(raw) == length and hmac.compare_digest(_compute_seal(key, purpose, raw), received_seal) else None


def _compute_seal(key: bytes, purpose: bytes, body: bytes) -> bytes:
    return hmac.digest(key, purpose + b"\0" + body, "sha256")


def _encode_base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _decode_base64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def compute_fingerprint(secret: str) -> bytes:
    """What is stored of a one-time token with 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public part of a key: published from when it was made, and signing from `signs_from` until its successor
    does.
    """

    kid: str
    signs_from: datetime
    public: Mapping[str, Any]


def _get_age_order(key: SigningKey) -> tuple[datetime, str]:
    return key.signs_from, key.kid


@dataclass(frozen=True, slots=True)
class KeySchedule:
    """When keys come and go. `lead`: how long a key is published before it signs, longer than anybody caches the key
    set.
    """

    rotation: timedelta
    lead: timedelta
    token_life: timedelta

    def choose_signing_key(self, keys: Sequence[SigningKey], now: datetime) -> SigningKey:
        """The newest key whose time has come; on a clock that is behind the others', the oldest there is."""
        usable_keys = [key for key in keys if key.signs_from <= now]
        return max(usable_keys, key=_get_age_order) if usable_keys else min(keys, key=_get_age_order)

    def compute_next_signs_from(self, keys: Sequence[SigningKey], now: datetime) -> datetime | None:
        """From when a key that has to be made now shall sign; None while none has to be made."""
        if not keys:
            return now
        newest = max(key.signs_from for key in keys)
        if newest > now or newest + self.rotation > now + self.lead:
            return None
        return max(newest + self.rotation, now + self.lead)

    def list_retired_kids(self, keys: Sequence[SigningKey], now: datetime) -> list[str]:
        """Keys whose last token has expired: superseded for longer than a token lives, with a lead for replicas that
        were late to switch.
        """
        ordered = sorted(keys, key=_get_age_order)
        return [
            key.kid for key, successor in pairwise(ordered) if successor.signs_from + self.token_life + self.lead <= now
        ]


def extract_network(address: str | None) -> str:
    """The part of a client's address that one party controls: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def find_client_network(peer: str | None, forwarded: str, gateways: Sequence[IPv4Network | IPv6Network]) -> str:
    """The client's network: what a gateway says last of it, for whoever else connects its own address."""
    forwarded_address = forwarded.rpartition(",")[2].strip()
    try:
        if forwarded_address and any(ip_address(peer or "") in gateway for gateway in gateways):
            return extract_network(forwarded_address)
    except ValueError:
        pass
    return extract_network(peer)


@dataclass(frozen=True, slots=True)
class AttemptCounter:
    """A row that counts failed attempts; it delays further ones when the free ones are used up. Hashed: what people
    type into a name field may be a password.
    """

    key: bytes
    free_attempts: int


def build_counter(scope: str, *values: str, free_attempts: int) -> AttemptCounter:
    return AttemptCounter(compute_fingerprint("\0".join((scope, *values))), free_attempts)


class DuplicateEmail(Conflict):
    title, slug = "The e-mail address has an account", "email-taken"


class LastAdminError(Conflict):
    title, slug = "The last admin stays", "last-admin"


class SignInRefused(BadRequest):
    title, slug = "The sign-in was refused", "sign-in-refused"


class ExternalRoleError(Conflict):
    title, slug = "The role follows the groups of the identity provider", "external-role"


class TokenRequestError(BadRequest):
    """An error answer of RFC 6749 §5.2. `detail` keeps to the characters that the RFC allows there: no quotes, no
    backslash.
    """

    title, slug = "The token request was refused", "token-request"

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail, error=error, error_description=detail)


class InvalidClientError(Unauthorized):
    title, slug = "The client is not known", "invalid-client"

    def __init__(self) -> None:
        detail = "the client id or secret is wrong"
        super().__init__(detail, error="invalid_client", error_description=detail)
        self.headers = {"WWW-Authenticate": 'Basic realm="caravan"'}
