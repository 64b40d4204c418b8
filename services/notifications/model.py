"""The rules of notifications: their kinds, the channel each takes, which of them users can opt out of, and when a
failed one is retried.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import ValidationError

from caravan.email_address import is_email_address
from caravan.errors import MessageRejected
from caravan.money import Money
from services.notifications.messages import CANCELLATION_REFUSED, ChannelName, NotificationState

Priority = Literal["critical", "standard", "bulk"]
Category = Literal["security", "transactional", "alerts", "promotions"]
UNSUBSCRIBABLE: tuple[Literal["alerts", "promotions"], ...] = ("alerts", "promotions")
"""What a link in the mail itself ends."""
CATEGORY_LABELS: Mapping[Category, str] = {
    "transactional": "mails about your orders",
    "alerts": "mails about products that you follow",
    "promotions": "promotional mails",
}
"""What those are called to the people who get them."""

MAX_DEDUP_KEY = 200
RETRY_SECONDS = (1, 5, 30, 120, 600, 1800, 3600, 7200, 14400, 28800, 28800)
"""About a day, as mail servers do. Only failures of one message count; a provider that is unavailable as a whole is
waited out.
"""

BOUNCE_WINDOW = timedelta(days=30)
"""How long after it was sent a message can come back."""
MONEY_VALUES = frozenset({"total", "refunded", "price", "previous_price"})


@dataclass(frozen=True, slots=True)
class NotificationKind:
    """A kind of message. Its templates are `templates/<name>.txt` and, for e-mails, `.html`."""

    name: str
    category: Category
    required_values: tuple[str, ...] = ()
    optional_values: tuple[str, ...] = ()
    """Values that it can do without; any other value is dropped."""
    channel: ChannelName | None = None
    """The one channel it takes, whatever the user prefers."""
    is_commandable: bool = False
    """Asked for by a command; the others come from events only."""
    is_abusable: bool = False
    """Whoever has an account in somebody else's address can cause it again and again at no cost. (How often links are
    mailed is bounded where they are made.)
    """


KINDS = {
    kind.name: kind
    for kind in (
        NotificationKind("welcome", "transactional", required_values=("name",), is_commandable=True),
        NotificationKind(
            "order_received",
            "transactional",
            required_values=("total",),
            optional_values=("customer_name",),
            channel="log",
        ),
        NotificationKind("order_confirmed", "transactional", required_values=("total",)),
        NotificationKind("order_rejected", "transactional", required_values=("reason",), is_abusable=True),
        NotificationKind("payment_failed", "transactional", required_values=("reason", "total"), is_abusable=True),
        NotificationKind(
            "order_shipped",
            "transactional",
            required_values=("carrier", "tracking_number"),
            optional_values=("parcels",),
        ),
        NotificationKind(
            "order_cancelled",
            "transactional",
            required_values=("reason",),
            optional_values=("refunded",),
            is_abusable=True,
        ),
        NotificationKind(CANCELLATION_REFUSED, "transactional", required_values=("reason",), is_abusable=True),
        NotificationKind(
            "password_changed",
            "security",
            optional_values=("name", "at"),
            channel="email",
            is_commandable=True,
            is_abusable=True,
        ),
        NotificationKind(
            "verify_email",
            "security",
            required_values=("link",),
            optional_values=("at", "days"),
            channel="email",
            is_commandable=True,
        ),
        NotificationKind(
            "password_reset",
            "security",
            required_values=("link",),
            optional_values=("name", "at", "minutes"),
            channel="email",
            is_commandable=True,
        ),
        NotificationKind(
            "session_reuse",
            "security",
            optional_values=("name", "at"),
            channel="email",
            is_commandable=True,
            is_abusable=True,
        ),
        NotificationKind(
            "price_drop",
            "alerts",
            required_values=("sku",),
            optional_values=("name", "price", "previous_price"),
            is_commandable=True,
        ),
        NotificationKind(
            "back_in_stock",
            "alerts",
            required_values=("sku",),
            optional_values=("name", "price", "previous_price"),
            is_commandable=True,
        ),
        NotificationKind(
            "product_updated",
            "alerts",
            required_values=("sku",),
            optional_values=("name", "price", "previous_price"),
            is_commandable=True,
        ),
        NotificationKind(
            "daily_report",
            "transactional",
            required_values=("day", "orders", "states", "sales", "history"),
            channel="email",
            is_commandable=True,
        ),
        NotificationKind("campaign", "promotions", required_values=("campaign_id",), optional_values=("name", "items")),
    )
}

SECRET_KINDS = [kind.name for kind in KINDS.values() if kind.category == "security"]
"""Their values, such as a link that sets a password, are not kept once they are sent."""


@dataclass(frozen=True, slots=True)
class Preference:
    """How a user wants to be reached. Security messages go by e-mail and can't be opted out of."""

    channel: ChannelName = "email"
    phone: str | None = None
    opt_out: frozenset[str] = frozenset()
    version: int = 0
    time_zone: str | None = None
    """Where the user lives, by its IANA name."""


DEFAULT_PREFERENCE = Preference()


@dataclass(slots=True)
class NotificationRequest:
    """A message that somebody should get."""

    dedup_key: str
    kind: NotificationKind
    user_id: UUID | None
    email: str
    values: dict[str, Any] = field(default_factory=dict)
    order_id: UUID | None = None
    priority: Priority = "standard"
    is_suppressed: bool = False
    """It is only noted, because the address is not known to be the user's: alerts always, what costs nothing to cause
    beyond a limit.
    """
    is_undeliverable: bool = False
    """Mail to the address came back, or its reader complained: alerts and promotions are only noted."""


@dataclass(frozen=True, slots=True)
class ChannelChoice:
    channel: ChannelName
    recipient: str
    state: NotificationState


def commandable_type(name: str) -> NotificationKind:
    """The kind that a command asks for. Raises MessageRejected."""
    kind = KINDS.get(name)
    if kind is None or not kind.is_commandable:
        raise MessageRejected(
            f"no kind {name!r} can be asked for; there are "
            f"{', '.join(kind.name for kind in KINDS.values() if kind.is_commandable)}"
        )
    return kind


def validate_request(request: NotificationRequest) -> NotificationRequest:
    """A message that can be sent, with the values of its kind only. Raises MessageRejected, naming what is wrong."""
    kind, values = request.kind, request.values
    if not request.dedup_key or len(request.dedup_key) > MAX_DEDUP_KEY or not request.dedup_key.isprintable():
        raise MessageRejected(f"{kind.name}: `about` must be 1 to {MAX_DEDUP_KEY} printable characters")
    if not is_email_address(request.email):
        raise MessageRejected(f"{kind.name} about {request.dedup_key}: the recipient is not an e-mail address")
    missing = [name for name in kind.required_values if values.get(name) is None]
    if missing:
        raise MessageRejected(f"{kind.name} about {request.dedup_key} lacks {', '.join(missing)}")
    for name in MONEY_VALUES & values.keys():
        if values[name] is not None and not _is_money(values[name]):
            raise MessageRejected(f"{kind.name} about {request.dedup_key}: {name} is not an amount with its currency")
    request.values = {
        name: values[name] for name in kind.required_values + kind.optional_values if values.get(name) is not None
    }
    return request


def _is_money(value: object) -> bool:
    try:
        Money.model_validate(value)
    except ValidationError:
        return False
    return True


def choose_channel(request: NotificationRequest, preference: Preference) -> ChannelChoice:
    """The way a message takes."""
    kind = request.kind
    is_opted_out = kind.category in preference.opt_out and kind.category != "security"
    channel, recipient = kind.channel or preference.channel, request.email
    if channel == "sms":
        channel, recipient = ("sms", preference.phone) if preference.phone else ("email", request.email)
    is_lost = channel == "email" and request.is_undeliverable and kind.category in UNSUBSCRIBABLE
    state: NotificationState = "suppressed" if is_opted_out or request.is_suppressed or is_lost else "pending"
    return ChannelChoice(channel, recipient, state)


def compute_retry_delay(attempts: int) -> timedelta | None:
    """How long to wait after this many failed attempts; None when it is given up."""
    return timedelta(seconds=RETRY_SECONDS[attempts - 1]) if attempts <= len(RETRY_SECONDS) else None


def build_provider_key(dedup_key: str, kind: str, resends: int = 0) -> str:
    """The key under which a provider gets the message, the same at each attempt: 32 hexadecimal digits. One that staff
    sends again after a provider had taken it has another key, or it would count as the same.
    """
    suffix = f"\n{resends}" if resends else ""
    return hashlib.sha256(f"{kind}\n{dedup_key}{suffix}".encode()).hexdigest()[:32]
