"""The rules of accounts, sessions, signing keys and login attempts. Time, ids and randomness come in as arguments."""

import hashlib
import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import pairwise
from typing import Any, Literal, Self
from uuid import UUID

from caravan.email_address import parse_email_address
from caravan.errors import BadRequest, Conflict, Unauthorized

UserRole = Literal["customer", "staff", "admin"]

OPERATOR = "cli"
"""The client that is the operator's own command line: an admin, where every other client is a service."""
CLIENT_SESSION = "client:"
"""Tokens of clients belong to no session of a person; theirs is named after the client."""


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

    @property
    def verified(self) -> bool:
        return self.verified_at is not None

    @property
    def acting_admin(self) -> bool:
        return self.role == "admin" and not self.disabled and self.password is not None


def normal_email(email: str) -> str:
    """One spelling per mailbox: without it a second account could be made by a capital letter. What is no address stays, and is nobody's."""
    try:
        return parse_email_address(email)
    except ValueError:
        return email.strip().lower()


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A session's refresh token of one generation; each use raises the generation, so that a token used before is recognised.

    It is authenticated, not stored: the database holds only the present generation, and a guessed or altered token is no token.
    """

    session: UUID
    generation: int

    def write(self, key: bytes) -> str:
        return _sealed(key, b"refresh token", self.session.bytes + self.generation.to_bytes(4, "big"))

    @classmethod
    def read(cls, token: str, key: bytes) -> Self | None:
        """The token, or None for anything that this key did not write."""
        raw = _unsealed(key, b"refresh token", token, 20)
        return cls(UUID(bytes=raw[:16]), int.from_bytes(raw[16:], "big")) if raw else None


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has signed in to an account. It only keeps the device out of the delays that others' failed tries cause."""

    account: UUID
    mark: bytes

    def write(self, key: bytes) -> str:
        return _sealed(key, b"device", self.account.bytes + self.mark)

    @classmethod
    def read(cls, text: str, key: bytes) -> Self | None:
        """The device, or None for anything that this key did not write."""
        raw = _unsealed(key, b"device", text, 32)
        return cls(UUID(bytes=raw[:16]), raw[16:]) if raw else None


def verification_token(account: Account, expires: datetime, key: bytes) -> str:
    """Good for this address and this password: whoever changes either ends it."""
    return _sealed(key, _verifying(account), account.id.bytes + int(expires.timestamp()).to_bytes(8, "big"))


def verification_account(token: str) -> UUID | None:
    """Whose link it says to be."""
    try:
        raw = _bytes(token.partition(".")[0])
    except ValueError:
        return None
    return UUID(bytes=raw[:16]) if len(raw) == 24 else None


def is_verification(token: str, account: Account, now: datetime, key: bytes) -> bool:
    raw = _unsealed(key, _verifying(account), token, 24)
    return raw is not None and raw[:16] == account.id.bytes and int.from_bytes(raw[16:], "big") > now.timestamp()


def _verifying(account: Account) -> bytes:
    return f"verification\0{account.email}\0{account.password_set_at}".encode()


def _sealed(key: bytes, purpose: bytes, body: bytes) -> str:
    return f"{_text(body)}.{_text(_seal(key, purpose, body))}"


def _unsealed(key: bytes, purpose: bytes, text: str, length: int) -> bytes | None:
    body, _, seal = text.partition(".")
    try:
        raw, given = _bytes(body), _bytes(seal)
    except ValueError:
        return None
    return raw if len(raw) == length and hmac.compare_digest(_seal(key, purpose, raw), given) else None


def _seal(key: bytes, purpose: bytes, body: bytes) -> bytes:
    return hmac.digest(key, purpose + b"\0" + body, "sha256")


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def fingerprint(secret: str) -> bytes:
    """What is stored of a one-time token with 256 random bits."""
    return hashlib.sha256(secret.encode()).digest()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public part of a key: published from when it was made, and signing from `signs_from` until its successor does."""

    kid: str
    signs_from: datetime
    public: Mapping[str, Any]


def _age(key: SigningKey) -> tuple[datetime, str]:
    return key.signs_from, key.kid


@dataclass(frozen=True, slots=True)
class Schedule:
    """When keys come and go. `lead`: how long a key is published before it signs, longer than anybody caches the key set."""

    rotation: timedelta
    lead: timedelta
    token_life: timedelta

    def signer(self, keys: Sequence[SigningKey], now: datetime) -> SigningKey:
        """The newest key whose time has come; on a clock that is behind the others', the oldest there is."""
        come = [key for key in keys if key.signs_from <= now]
        return max(come, key=_age) if come else min(keys, key=_age)

    def next_signs_from(self, keys: Sequence[SigningKey], now: datetime) -> datetime | None:
        """From when a key that has to be made now shall sign; None while none has to be made."""
        if not keys:
            return now
        newest = max(key.signs_from for key in keys)
        if newest > now or newest + self.rotation > now + self.lead:
            return None
        return max(newest + self.rotation, now + self.lead)

    def retired(self, keys: Sequence[SigningKey], now: datetime) -> list[str]:
        """Keys whose last token has expired: superseded for longer than a token lives, with a lead for replicas that were late to switch."""
        ordered = sorted(keys, key=_age)
        return [key.kid for key, successor in pairwise(ordered) if successor.signs_from + self.token_life + self.lead <= now]


def network(address: str | None) -> str:
    """The part of a client's address that one party controls: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ip_address(address or "")
    except ValueError:
        return "unknown"
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return str(parsed)


def client_network(peer: str | None, forwarded: str, gateways: Sequence[IPv4Network | IPv6Network]) -> str:
    """The client's network: what a gateway says last of it, for whoever else connects its own address."""
    said = forwarded.rpartition(",")[2].strip()
    try:
        if said and any(ip_address(peer or "") in gateway for gateway in gateways):
            return network(said)
    except ValueError:
        pass
    return network(peer)


@dataclass(frozen=True, slots=True)
class Counter:
    """A row that counts failed tries; it delays further ones when `free` are used up. Hashed: what people type into a name field may be a password."""

    key: bytes
    free: int


def counter(kind: str, *parts: str, free: int) -> Counter:
    return Counter(fingerprint("\0".join((kind, *parts))), free)


class EmailTaken(Conflict):
    title, slug = "The e-mail address has an account", "email-taken"


class LastAdmin(Conflict):
    title, slug = "The last admin stays", "last-admin"


class GrantRefused(BadRequest):
    """An error answer of RFC 6749 §5.2. `detail` keeps to the characters that the RFC allows there: no quotes, no backslash."""

    title, slug = "The token request was refused", "token-request"

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail, error=error, error_description=detail)


class ClientRefused(Unauthorized):
    title, slug = "The client is not known", "invalid-client"

    def __init__(self) -> None:
        detail = "the client id or secret is wrong"
        super().__init__(detail, error="invalid_client", error_description=detail)
        self.headers = {"WWW-Authenticate": 'Basic realm="caravan"'}
