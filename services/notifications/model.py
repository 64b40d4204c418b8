"""The rules: which kinds there are, which channel a message takes, what may be opted out of, and when a failed one is tried again."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from caravan.email_address import is_email_address
from caravan.errors import Reject
from caravan.money import Money
from services.notifications.messages import CANCELLATION_REFUSED

Channel = Literal["email", "sms", "log"]
Priority = Literal["critical", "standard", "bulk"]
State = Literal["pending", "sent", "failed", "suppressed"]
Category = Literal["security", "transactional", "alerts", "promotions"]
UNSUBSCRIBED: tuple[Category, ...] = ("alerts", "promotions")
"""What a link in the mail itself ends."""
MAILS_OF: Mapping[Category, str] = {"alerts": "mails about products that you follow", "promotions": "promotional mails"}
"""What those are called to the people who get them."""

MAX_ABOUT = 200
RETRY_SECONDS = (1, 5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""About a day, as mail servers do. Only trouble with one message counts; a provider that is away as a whole is waited out."""

MONEY = frozenset({"total", "refunded", "price", "previous_price"})


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of message. Its templates are `templates/<name>.txt` and, for e-mails, `.html`."""

    name: str
    category: Category
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    """Values that it can do without; any other value is dropped."""
    channel: Channel | None = None
    """The one channel it takes, whatever the user prefers."""
    commanded: bool = False
    """Asked for by a command; the others come from events only."""
    free: bool = False
    """Whoever has an account in somebody else's address can cause it again and again at no cost. (How often links are mailed is bounded where they are made.)"""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("welcome", "transactional", needs=("name",), commanded=True),
        Kind("order_received", "transactional", needs=("total",), may=("customer_name",), channel="log"),
        Kind("order_confirmed", "transactional", needs=("total",)),
        Kind("order_rejected", "transactional", needs=("reason",), free=True),
        Kind("payment_failed", "transactional", needs=("reason", "total"), free=True),
        Kind("order_shipped", "transactional", needs=("carrier", "tracking_number"), may=("parcels",)),
        Kind("order_cancelled", "transactional", needs=("reason",), may=("refunded",), free=True),
        Kind(CANCELLATION_REFUSED, "transactional", needs=("reason",), free=True),
        Kind("password_changed", "security", may=("name", "at"), channel="email", commanded=True, free=True),
        Kind("verify_email", "security", needs=("link",), may=("at", "days"), channel="email", commanded=True),
        Kind("password_reset", "security", needs=("link",), may=("name", "at", "minutes"), channel="email", commanded=True),
        Kind("session_reuse", "security", may=("name", "at"), channel="email", commanded=True, free=True),
        Kind("price_drop", "alerts", needs=("sku",), may=("name", "price", "previous_price"), commanded=True),
        Kind("back_in_stock", "alerts", needs=("sku",), may=("name", "price", "previous_price"), commanded=True),
        Kind("product_updated", "alerts", needs=("sku",), may=("name", "price", "previous_price"), commanded=True),
        Kind("campaign", "promotions", needs=("campaign_id",), may=("name",)),
    )
}


@dataclass(frozen=True, slots=True)
class Preference:
    """How a user wants to be reached. Security messages go by e-mail and can't be opted out of."""

    channel: Channel = "email"
    phone: str | None = None
    opt_out: frozenset[str] = frozenset()
    version: int = 0


DEFAULT = Preference()


@dataclass(slots=True)
class Wanted:
    """A message that somebody should get."""

    about: str
    kind: Kind
    user_id: UUID | None
    email: str
    values: dict[str, Any] = field(default_factory=dict)
    order_id: UUID | None = None
    priority: Priority = "standard"
    suppressed: bool = False
    """It is only noted, because the address is not known to be the user's: alerts always, what costs nothing to cause beyond a limit."""


@dataclass(frozen=True, slots=True)
class Route:
    channel: Channel
    recipient: str
    state: State


def commanded(name: str) -> Kind:
    """The kind that a command asks for. Raises Reject."""
    kind = KINDS.get(name)
    if kind is None or not kind.commanded:
        raise Reject(f"no kind {name!r} can be asked for; there are {', '.join(kind.name for kind in KINDS.values() if kind.commanded)}")
    return kind


def check(wanted: Wanted) -> Wanted:
    """A message that can be sent, with the values of its kind only. Raises Reject naming what is wrong with it."""
    kind, values = wanted.kind, wanted.values
    if not wanted.about or len(wanted.about) > MAX_ABOUT or not wanted.about.isprintable():
        raise Reject(f"{kind.name}: `about` must be 1 to {MAX_ABOUT} printable characters")
    if not is_email_address(wanted.email):
        raise Reject(f"{kind.name} about {wanted.about}: the recipient is not an e-mail address")
    missing = [name for name in kind.needs if values.get(name) is None]
    if missing:
        raise Reject(f"{kind.name} about {wanted.about} lacks {', '.join(missing)}")
    for name in MONEY & values.keys():
        if values[name] is not None and not _is_money(values[name]):
            raise Reject(f"{kind.name} about {wanted.about}: {name} is not an amount with its currency")
    wanted.values = {name: values[name] for name in kind.needs + kind.may if values.get(name) is not None}
    return wanted


def _is_money(value: object) -> bool:
    try:
        Money.model_validate(value)
    except ValidationError:
        return False
    return True


def route(wanted: Wanted, preference: Preference) -> Route:
    """The way a message takes."""
    kind = wanted.kind
    refused = kind.category in preference.opt_out and kind.category != "security"
    state: State = "suppressed" if refused or wanted.suppressed else "pending"
    channel = kind.channel or preference.channel
    if channel == "sms":
        return Route("sms", preference.phone, state) if preference.phone else Route("email", wanted.email, state)
    return Route(channel, wanted.email, state)


def retry_after(attempts: int) -> timedelta | None:
    """How long to wait after this many failed attempts; None when it is given up."""
    return timedelta(seconds=RETRY_SECONDS[attempts - 1]) if attempts <= len(RETRY_SECONDS) else None


def provider_key(about: str, kind: str) -> str:
    """The key under which a provider gets the message, the same at each attempt: 32 hexadecimal digits."""
    return hashlib.sha256(f"{kind}\n{about}".encode()).hexdigest()[:32]


def unsubscribe_token(secret: str, user_id: UUID, category: Category) -> str:
    """What the List-Unsubscribe header carries: it works without a login, and only for that user and category."""
    return base64.urlsafe_b64encode(user_id.bytes + _seal(secret, user_id, category)).decode().rstrip("=")


def unsubscribed(secret: str, token: str) -> tuple[UUID, Category] | None:
    """Whose token it is, and what it ends; None when we did not make it."""
    try:
        content = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(content) != 32:
        return None
    user_id = UUID(bytes=content[:16])
    return next(
        ((user_id, category) for category in UNSUBSCRIBED if hmac.compare_digest(content[16:], _seal(secret, user_id, category))), None
    )


def _seal(secret: str, user_id: UUID, category: Category) -> bytes:
    return hmac.new(secret.encode(), user_id.bytes + category.encode(), hashlib.sha256).digest()[:16]
