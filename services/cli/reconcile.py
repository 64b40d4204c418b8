"""What the shop's services say of an order, compared with each other and with what was asked for. The comparison itself is pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.notifications.messages import CANCELLATION_REFUSED, EMAILS_BY_OUTCOME

TERMINAL = frozenset({"delivered", "rejected", "payment_failed", "cancelled", "refunded"})
PROCESSED = frozenset({"paid", "shipped", "delivered"})
SHIPPED = frozenset({"shipped", "delivered"})
UNDONE = frozenset({"cancelled", "refunded"})


@dataclass(frozen=True, slots=True)
class Facts:
    """One order, as each service knows it. Money in minor units."""

    order_id: str
    name: str
    """The invoice that it was made from."""
    asked: dict[str, int]
    """Units of each sku on the invoice."""
    status: str
    cancelling: bool
    """Whether a cancellation is asked for and not answered."""
    total: int
    ordered: dict[str, int]
    captured: int
    refunded: int
    provider_captured: int
    provider_refunded: int
    shipped: dict[str, int]
    """Units in the parcels that the carrier has."""
    left_stock: dict[str, int]
    """Units that the stock ledger has as shipped for this order."""
    emails: Counter[str]


@dataclass(frozen=True, slots=True)
class Difference:
    order_id: str
    name: str
    what: str


@dataclass(slots=True)
class Sums:
    """The two sides of each account over all orders."""

    orders: Counter[str] = field(default_factory=Counter)
    processed_total: int = 0
    captured: int = 0
    refunded: int = 0
    provider_captured: int = 0
    provider_refunded: int = 0
    units_ordered: int = 0
    units_shipped: int = 0
    units_left_stock: int = 0
    emails_expected: int = 0
    emails_sent: int = 0


def expected_emails(facts: Facts) -> Counter[str]:
    """By what happened to the order. An undone one was confirmed before or not, depending on when the cancellation came: either is right, twice is not."""
    happened = {
        "delivered": ("completed", "shipped"),
        "shipped": ("completed", "shipped"),
        "paid": ("completed",),
        "refunded": ("cancelled",),
    }
    kinds = Counter(kind for outcome in happened.get(facts.status, (facts.status,)) for kind in EMAILS_BY_OUTCOME.get(outcome, ()))
    if facts.status in UNDONE:
        kinds.update(kind for kind in EMAILS_BY_OUTCOME["completed"] if facts.emails[kind])
    if facts.emails[CANCELLATION_REFUSED]:
        kinds[CANCELLATION_REFUSED] = 1  # it may come with any end, once
    return kinds


def differences(orders: Sequence[Facts]) -> list[Difference]:
    return [Difference(facts.order_id, facts.name, what) for facts in orders for what in _of_one(facts)]


def _of_one(facts: Facts) -> Iterator[str]:
    if facts.status not in TERMINAL:
        yield f"is still {facts.status}"
    elif facts.cancelling:
        yield f"is {facts.status}, and its cancellation has no answer"
    if facts.ordered != facts.asked:
        yield f"has {_units(facts.ordered)} units of {len(facts.ordered)} products, the invoice {_units(facts.asked)} of {len(facts.asked)}"
    due = facts.total if facts.status in PROCESSED else 0
    if facts.captured - facts.refunded != due:
        yield f"is {facts.status}: {due} are due, {facts.captured} captured less {facts.refunded} refunded"
    if facts.status == "refunded" and not facts.captured:
        yield "is refunded, but nothing was captured"
    if (facts.provider_captured, facts.provider_refunded) != (facts.captured, facts.refunded):
        yield (
            f"the provider has captured {facts.provider_captured} and refunded {facts.provider_refunded}, "
            f"we say {facts.captured} and {facts.refunded}"
        )
    leaves = facts.ordered if facts.status in SHIPPED else {}
    if facts.shipped != leaves:
        yield f"is {facts.status}: {_units(leaves)} units should be with the carrier, {_units(facts.shipped)} are"
    if facts.left_stock != leaves:
        yield f"is {facts.status}: {_units(leaves)} units should have left the stock, {_units(facts.left_stock)} did"
    expected = expected_emails(facts)
    if facts.emails != expected:
        yield f"is {facts.status}: e-mails sent {_kinds(facts.emails)}, expected {_kinds(expected)}"


def _units(quantities: dict[str, int]) -> int:
    return sum(quantities.values())


def _kinds(emails: Counter[str]) -> str:
    return ", ".join(f"{kind} ×{count}" if count > 1 else kind for kind, count in sorted(emails.items()) if count) or "none"


def sums(orders: Iterable[Facts]) -> Sums:
    all_sums = Sums()
    for facts in orders:
        all_sums.orders[facts.status] += 1
        all_sums.processed_total += facts.total if facts.status in PROCESSED else 0
        all_sums.captured += facts.captured
        all_sums.refunded += facts.refunded
        all_sums.provider_captured += facts.provider_captured
        all_sums.provider_refunded += facts.provider_refunded
        all_sums.units_ordered += _units(facts.ordered) if facts.status in SHIPPED else 0
        all_sums.units_shipped += _units(facts.shipped)
        all_sums.units_left_stock += _units(facts.left_stock)
        all_sums.emails_expected += expected_emails(facts).total()
        all_sums.emails_sent += facts.emails.total()
    return all_sums
