"""The classes of gaps: the invariant that each breaks, how bad it is, and what is proposed."""

from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

Severity = Literal["critical", "warning"]
Repair = Literal["refund_payment", "release_stock"]


@dataclass(frozen=True, slots=True)
class GapClass:
    """`repair`: the command by which the owning service corrects it, where that is safe to send."""

    name: str
    invariant: str
    severity: Severity
    title: str
    action: str
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that does not add up now. `amount` is the money in question, in minor units; 0 where it is none."""

    gap_class: str
    subject: str
    order_id: UUID | None = None
    amount: int = 0
    currency: str = ""
    details: dict[str, Any] = field(default_factory=dict)


INVARIANTS = {
    "I1": "every accepted order exists once",
    "I2": "every order comes to an end",
    "I3": "money captured less money given back is what is due, here and at the provider",
    "I4": "stock is what its movements say, and never negative",
    "I5": "an order that came to nothing holds no stock",
    "I7": "every message is published",
}
"""Those of which a class is an instance; docs/reference/reconciliation.md has all twelve."""

CLASSES = {
    each.name: each
    for each in (
        GapClass(
            "captured_without_order",
            "I1",
            "critical",
            "Money was captured for an order that does not exist",
            "give the money back",
            "refund_payment",
        ),
        GapClass(
            "shipped_without_order",
            "I1",
            "critical",
            "Goods that were paid for have left, and their order does not exist",
            "keep the money, and tell the customer; after a restore, their order is lost",
        ),
        GapClass(
            "paid_without_capture",
            "I3",
            "critical",
            "The order is paid, and nothing was captured",
            "look up the charge at the provider; charge the customer anew or write it off",
        ),
        GapClass(
            "double_capture",
            "I3",
            "critical",
            "Money was captured more than once",
            "give back the second charge at the provider",
        ),
        GapClass(
            "refund_above_capture",
            "I3",
            "critical",
            "More was given back than captured",
            "stop the refund at the provider, or ask the customer for the difference",
        ),
        GapClass(
            "refund_without_cause",
            "I3",
            "critical",
            "Money was given back for an order that was not undone",
            "find out who asked for it; charge again or write it off",
        ),
        GapClass(
            "capture_not_returned",
            "I3",
            "critical",
            "The order came to nothing, and its money was kept",
            "give the money back",
            "refund_payment",
        ),
        GapClass(
            "wrong_amount",
            "I3",
            "critical",
            "The order, our books and the provider's differ in an amount",
            "give back or charge the difference at the provider",
        ),
        GapClass(
            "wrong_currency",
            "I3",
            "critical",
            "The order, our books and the provider's differ in the currency",
            "give back the charge at the provider, and charge in the order's currency",
        ),
        GapClass(
            "entry_unknown_to_us",
            "I3",
            "critical",
            "The provider has an entry that our books don't have",
            "look up its key at the provider; give back what no order explains",
        ),
        GapClass(
            "entry_unknown_to_provider",
            "I3",
            "critical",
            "Our books have an entry that the provider does not have",
            "look up its key at the provider; nothing may have moved",
        ),
        GapClass(
            "shipped_unpaid",
            "I3",
            "critical",
            "Parcels have left that nobody has paid for",
            "stop the parcels, or charge the customer",
        ),
        GapClass(
            "leaked_reservation",
            "I5",
            "warning",
            "Stock is held for an order that came to nothing",
            "release the stock",
            "release_stock",
        ),
        GapClass(
            "stock_not_movements",
            "I4",
            "critical",
            "The stock of a product is not what its movements add up to",
            "count the product, and find out who wrote to the table",
        ),
        GapClass(
            "reserved_not_reservations",
            "I4",
            "critical",
            "The reserved units of a product are not those that orders hold",
            "compare the product's ledger with its reservations",
        ),
        GapClass(
            "stock_oversold",
            "I4",
            "critical",
            "More of a product is promised than there is",
            "count the product; cancel orders that can't be served",
        ),
        GapClass(
            "shipped_without_stock",
            "I4",
            "critical",
            "Parcels have left that are still in the stock's books",
            "redrive inventory's messages of the order",
        ),
        GapClass(
            "wrong_units",
            "I4",
            "critical",
            "Not the ordered units were reserved or shipped",
            "compare order, reservation and parcels",
        ),
        GapClass(
            "outbox_unpublished",
            "I7",
            "critical",
            "A message was never published",
            "see why the relay does not send it; redrive what was refused",
        ),
        GapClass(
            "order_stuck",
            "I2",
            "warning",
            "Nothing has moved in an order that has not ended",
            "open its timeline; redrive what has failed",
        ),
    )
}
