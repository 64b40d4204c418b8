"""What came of a replay, as tables and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from caravan.money import Money
from services.cli.reconcile import PROCESSED, TERMINAL, UNDONE, Difference, Facts, sums
from services.cli.retail.invoices import Cancellation, Invoice, Leftover, Returns
from services.cli.retail.lines import InvoiceFile
from services.cli.terminal import print_line, print_table

NAMED = 20
"""So many of the orders with a remark are named."""


@dataclass(slots=True)
class Walk:
    """What came of the invoices."""

    placed: dict[str, str] = field(default_factory=dict)
    """Order id by the invoice's key."""
    before: int = 0
    """Orders that an earlier run had placed."""
    refused: list[tuple[Invoice, str]] = field(default_factory=list)
    cancelled: list[Cancellation] = field(default_factory=list)
    too_late: list[Cancellation] = field(default_factory=list)
    never_placed: list[Cancellation] = field(default_factory=list)
    seconds: float = 0.0


def show_walk(
    files: Sequence[InvoiceFile],
    orders: Sequence[Invoice],
    returns: Returns,
    walk: Walk,
    facts: Sequence[Facts],
    differing: Sequence[Difference],
    currency: str,
) -> None:
    rate = len(walk.placed) / walk.seconds if walk.seconds else 0.0
    rows: list[tuple[str, object]] = [
        ("invoices in the files", len(orders)),
        (f"orders placed ({rate:,.0f} a second)", len(walk.placed)),
        ("… of them placed before", walk.before),
        ("not placed", len(walk.refused)),
        ("orders given back whole", len(returns.cancellations)),
        ("… cancelled", len(walk.cancelled)),
        ("… too late: shipped, or ended otherwise", len(walk.too_late)),
        ("… never placed", len(walk.never_placed)),
        ("returned items of a part of an order: not placed yet", len(returns.partial)),
        ("returned items without an order in the files", len(returns.unmatched)),
        ("lines of the files that are returns", sum(len(file.returns) for file in files)),
    ]
    print_table("Replay", ("what", "#count"), rows)
    _name("Not placed", [(invoice.number, invoice.customer.name, why) for invoice, why in walk.refused], ("invoice", "customer", "why"))
    _name("Too late to cancel", [(each.order.number, ", ".join(each.by)) for each in walk.too_late], ("invoice", "given back by"))
    _name(
        "Parts of an order given back: not placed yet",
        [_leftover(each) for each in returns.partial],
        ("return", "sku", "#units", "of invoice"),
    )
    _books(facts, currency)
    _name("Differences", [(each.order_id, each.name, each.what) for each in differing], ("order", "invoice", "what differs"), limit=1000)
    print_line(f"differences = {len(differing)}")


def _books(facts: Sequence[Facts], currency: str) -> None:
    def _money(amount: int) -> str:
        return str(Money(amount=amount, currency=currency))

    total = sums(facts)
    outcomes: Counter[str] = total.orders
    print_table(
        "Outcomes",
        ("orders", "#count"),
        [
            ("processed (paid, shipped, delivered)", sum(outcomes[status] for status in PROCESSED)),
            ("rejected", outcomes["rejected"]),
            ("payment failed", outcomes["payment_failed"]),
            ("cancelled or refunded", sum(outcomes[status] for status in UNDONE)),
            ("not ended", sum(count for status, count in outcomes.items() if status not in TERMINAL | PROCESSED)),
        ],
    )
    print_table(
        "Reconciliation",
        ("account", "#one side", "#other side", "#difference"),
        [
            _account("processed orders | captured less refunded", total.processed_total, total.captured - total.refunded, _money),
            _account("captured | at the provider", total.captured, total.provider_captured, _money),
            _account("refunded | at the provider", total.refunded, total.provider_refunded, _money),
            _account("units of shipped orders | with the carrier", total.units_ordered, total.units_shipped, _number),
            _account("units of shipped orders | that left the stock", total.units_ordered, total.units_left_stock, _number),
            _account("e-mails expected | sent", total.emails_expected, total.emails_sent, _number),
        ],
    )


def _account(name: str, one: int, other: int, form: Any) -> tuple[str, str, str, str]:
    return name, form(one), form(other), form(one - other)


def _number(value: int) -> str:
    return f"{value:,}"


def _leftover(each: Leftover) -> tuple[object, ...]:
    return each.invoice, each.sku, each.quantity, each.order or each.why


def _name(title: str, rows: Sequence[Sequence[object]], columns: Sequence[str], limit: int = NAMED) -> None:
    if rows:
        more = f" (the first {limit} of {len(rows):,})" if len(rows) > limit else ""
        print_table(title + more, columns, rows[:limit])


def as_facts(
    orders: Sequence[Invoice], returns: Returns, walk: Walk, facts: Sequence[Facts], differing: Sequence[Difference], currency: str
) -> dict[str, Any]:
    total = sums(facts)
    return {
        "invoices": len(orders),
        "placed": len(walk.placed),
        "placed_before": walk.before,
        "not_placed": [{"invoice": invoice.number, "why": why} for invoice, why in walk.refused],
        "given_back": len(returns.cancellations),
        "cancelled": len(walk.cancelled),
        "too_late": [each.order.number for each in walk.too_late],
        "never_placed": [each.order.number for each in walk.never_placed],
        "partial_returns": [
            {"return": each.invoice, "sku": each.sku, "quantity": each.quantity, "of": each.order} for each in returns.partial
        ],
        "unmatched_returns": len(returns.unmatched),
        "outcomes": dict(total.orders),
        "money": {
            "processed": total.processed_total,
            "captured": total.captured,
            "refunded": total.refunded,
            "provider_captured": total.provider_captured,
            "provider_refunded": total.provider_refunded,
            "currency": currency,
        },
        "units": {"ordered": total.units_ordered, "shipped": total.units_shipped, "left_stock": total.units_left_stock},
        "emails": {"expected": total.emails_expected, "sent": total.emails_sent},
        "differences": [{"order": each.order_id, "invoice": each.name, "what": each.what} for each in differing],
    }
