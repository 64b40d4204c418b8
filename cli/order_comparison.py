"""Compares what the services say of an order with the invoice it was placed for, and its end with its mails. Pure;
`order_facts.py` collects the input. Whether its money and stock add up is for the service reconciliation to say.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from services.notifications.messages import CANCELLATION_REFUSED, EMAILS_BY_OUTCOME

TERMINAL_STATUSES = frozenset({"delivered", "rejected", "payment_failed", "cancelled", "refunded"})
PROCESSED_STATUSES = frozenset({"paid", "shipped", "delivered"})
SHIPPED_STATUSES = frozenset({"shipped", "delivered"})
UNDONE_STATUSES = frozenset({"cancelled", "refunded"})


@dataclass(frozen=True, slots=True)
class OrderAudit:
    """One order, as each service knows it. Money in minor units."""

    order_id: str
    name: str
    """The invoice that it was made from."""
    invoiced: dict[str, int]
    """Units of each sku on the invoice."""
    status: str
    is_cancelling: bool
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
    description: str


@dataclass(slots=True)
class ReconciliationTotals:
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


def compute_expected_emails(audit: OrderAudit) -> Counter[str]:
    """By what happened to the order. An undone one was confirmed before or not, depending on when the cancellation
    came: either is right, twice is not.
    """
    outcomes_by_status = {
        "delivered": ("completed", "shipped"),
        "shipped": ("completed", "shipped"),
        "paid": ("completed",),
        "refunded": ("cancelled",),
    }
    email_kinds = Counter(
        kind
        for outcome in outcomes_by_status.get(audit.status, (audit.status,))
        for kind in EMAILS_BY_OUTCOME.get(outcome, ())
    )
    if audit.status in UNDONE_STATUSES:
        email_kinds.update(kind for kind in EMAILS_BY_OUTCOME["completed"] if audit.emails[kind])
    if audit.emails[CANCELLATION_REFUSED]:
        email_kinds[CANCELLATION_REFUSED] = 1  # it may come with any end, once
    return email_kinds


def find_differences(orders: Sequence[OrderAudit]) -> list[Difference]:
    return [Difference(audit.order_id, audit.name, what) for audit in orders for what in _compare_order(audit)]


def _compare_order(audit: OrderAudit) -> Iterator[str]:
    if audit.status not in TERMINAL_STATUSES:
        yield f"is still {audit.status}"
    elif audit.is_cancelling:
        yield f"is {audit.status}, and its cancellation has no answer"
    if audit.ordered != audit.invoiced:
        yield (
            f"has {_count_units(audit.ordered)} units of {len(audit.ordered)} products, the invoice "
            f"{_count_units(audit.invoiced)} of {len(audit.invoiced)}"
        )
    expected_kinds = compute_expected_emails(audit)
    if audit.emails != expected_kinds:
        yield f"is {audit.status}: e-mails sent {_format_kinds(audit.emails)}, expected {_format_kinds(expected_kinds)}"


def _count_units(quantities: dict[str, int]) -> int:
    return sum(quantities.values())


def _format_kinds(emails: Counter[str]) -> str:
    return (
        ", ".join(f"{kind} ×{count}" if count > 1 else kind for kind, count in sorted(emails.items()) if count)
        or "none"
    )


def compute_totals(orders: Iterable[OrderAudit]) -> ReconciliationTotals:
    totals = ReconciliationTotals()
    for audit in orders:
        totals.orders[audit.status] += 1
        totals.processed_total += audit.total if audit.status in PROCESSED_STATUSES else 0
        totals.captured += audit.captured
        totals.refunded += audit.refunded
        totals.provider_captured += audit.provider_captured
        totals.provider_refunded += audit.provider_refunded
        totals.units_ordered += _count_units(audit.ordered) if audit.status in SHIPPED_STATUSES else 0
        totals.units_shipped += _count_units(audit.shipped)
        totals.units_left_stock += _count_units(audit.left_stock)
        totals.emails_expected += compute_expected_emails(audit).total()
        totals.emails_sent += audit.emails.total()
    return totals
