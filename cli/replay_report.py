"""The report of a replay, as tables and as JSON."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from caravan.money import Money
from cli.order_comparison import (
    PROCESSED_STATUSES,
    TERMINAL_STATUSES,
    UNDONE_STATUSES,
    Difference,
    OrderAudit,
    compute_totals,
)
from cli.retail.invoices import Cancellation, Invoice, Leftover, Returns
from cli.retail.lines import InvoiceFile
from cli.terminal import print_line, print_table

MAX_NAMED = 20
"""So many of the orders with a remark are named."""


@dataclass(slots=True)
class ReplayResult:
    """What came of the invoices."""

    placed: dict[str, str] = field(default_factory=dict)
    """Order id by the invoice's key."""
    placed_before: int = 0
    """Orders that an earlier run had placed."""
    refused_invoices: list[tuple[Invoice, str]] = field(default_factory=list)
    cancellations: list[Cancellation] = field(default_factory=list)
    late_cancellations: list[Cancellation] = field(default_factory=list)
    unplaced_cancellations: list[Cancellation] = field(default_factory=list)
    seconds: float = 0.0


def print_replay_report(
    files: Sequence[InvoiceFile],
    orders: Sequence[Invoice],
    returns: Returns,
    result: ReplayResult,
    audits: Sequence[OrderAudit],
    differences: Sequence[Difference],
    currency: str,
) -> None:
    rate = len(result.placed) / result.seconds if result.seconds else 0.0
    rows: list[tuple[str, object]] = [
        ("invoices in the files", len(orders)),
        (f"orders placed ({rate:,.0f} a second)", len(result.placed)),
        ("… of them placed before", result.placed_before),
        ("not placed", len(result.refused_invoices)),
        ("orders given back whole", len(returns.cancellations)),
        ("… cancelled", len(result.cancellations)),
        ("… too late: shipped, or ended otherwise", len(result.late_cancellations)),
        ("… never placed", len(result.unplaced_cancellations)),
        ("returned items of a part of an order: not placed yet", len(returns.partial_returns)),
        ("returned items without an order in the files", len(returns.unmatched_returns)),
        ("lines of the files that are returns", sum(len(file.returns) for file in files)),
    ]
    print_table("Replay", ("what", "#count"), rows)
    _print_named(
        "Not placed",
        [(invoice.number, invoice.customer.name, why) for invoice, why in result.refused_invoices],
        ("invoice", "customer", "why"),
    )
    _print_named(
        "Too late to cancel",
        [(each.order.number, ", ".join(each.return_numbers)) for each in result.late_cancellations],
        ("invoice", "given back by"),
    )
    _print_named(
        "Parts of an order given back: not placed yet",
        [_build_leftover_row(each) for each in returns.partial_returns],
        ("return", "sku", "#units", "of invoice"),
    )
    _print_books(audits, currency)
    _print_named(
        "Differences",
        [(each.order_id, each.name, each.description) for each in differences],
        ("order", "invoice", "what differs"),
        limit=1000,
    )
    print_line(f"differences = {len(differences)}")


def _print_books(audits: Sequence[OrderAudit], currency: str) -> None:
    def format_money(amount: int) -> str:
        return str(Money(amount=amount, currency=currency))

    totals = compute_totals(audits)
    outcomes: Counter[str] = totals.orders
    print_table(
        "Outcomes",
        ("orders", "#count"),
        [
            ("processed (paid, shipped, delivered)", sum(outcomes[status] for status in PROCESSED_STATUSES)),
            ("rejected", outcomes["rejected"]),
            ("payment failed", outcomes["payment_failed"]),
            ("cancelled or refunded", sum(outcomes[status] for status in UNDONE_STATUSES)),
            (
                "not ended",
                sum(
                    count for status, count in outcomes.items() if status not in TERMINAL_STATUSES | PROCESSED_STATUSES
                ),
            ),
        ],
    )
    print_table(
        "Reconciliation",
        ("account", "#one side", "#other side", "#difference"),
        [
            _build_account_row(
                "processed orders | captured less refunded",
                totals.processed_total,
                totals.captured - totals.refunded,
                format_money,
            ),
            _build_account_row("captured | at the provider", totals.captured, totals.provider_captured, format_money),
            _build_account_row("refunded | at the provider", totals.refunded, totals.provider_refunded, format_money),
            _build_account_row(
                "units of shipped orders | with the carrier", totals.units_ordered, totals.units_shipped, _format_number
            ),
            _build_account_row(
                "units of shipped orders | that left the stock",
                totals.units_ordered,
                totals.units_left_stock,
                _format_number,
            ),
            _build_account_row("e-mails expected | sent", totals.emails_expected, totals.emails_sent, _format_number),
        ],
    )


def _build_account_row(name: str, expected: int, actual: int, format_value: Any) -> tuple[str, str, str, str]:
    return name, format_value(expected), format_value(actual), format_value(expected - actual)


def _format_number(value: int) -> str:
    return f"{value:,}"


def _build_leftover_row(each: Leftover) -> tuple[object, ...]:
    return each.invoice, each.sku, each.quantity, each.order or each.reason


def _print_named(title: str, rows: Sequence[Sequence[object]], columns: Sequence[str], limit: int = MAX_NAMED) -> None:
    if rows:
        suffix = f" (the first {limit} of {len(rows):,})" if len(rows) > limit else ""
        print_table(title + suffix, columns, rows[:limit])


def build_replay_json(
    orders: Sequence[Invoice],
    returns: Returns,
    result: ReplayResult,
    audits: Sequence[OrderAudit],
    differences: Sequence[Difference],
    currency: str,
) -> dict[str, Any]:
    totals = compute_totals(audits)
    return {
        "invoices": len(orders),
        "placed": len(result.placed),
        "placed_before": result.placed_before,
        "not_placed": [{"invoice": invoice.number, "why": why} for invoice, why in result.refused_invoices],
        "given_back": len(returns.cancellations),
        "cancelled": len(result.cancellations),
        "too_late": [each.order.number for each in result.late_cancellations],
        "never_placed": [each.order.number for each in result.unplaced_cancellations],
        "partial_returns": [
            {"return": each.invoice, "sku": each.sku, "quantity": each.quantity, "of": each.order}
            for each in returns.partial_returns
        ],
        "unmatched_returns": len(returns.unmatched_returns),
        "outcomes": dict(totals.orders),
        "money": {
            "processed": totals.processed_total,
            "captured": totals.captured,
            "refunded": totals.refunded,
            "provider_captured": totals.provider_captured,
            "provider_refunded": totals.provider_refunded,
            "currency": currency,
        },
        "units": {
            "ordered": totals.units_ordered,
            "shipped": totals.units_shipped,
            "left_stock": totals.units_left_stock,
        },
        "emails": {"expected": totals.emails_expected, "sent": totals.emails_sent},
        "differences": [
            {"order": each.order_id, "invoice": each.name, "what": each.description} for each in differences
        ],
    }
