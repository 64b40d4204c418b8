"""Invoices as orders, and returns matched with the orders that they give back."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from cli.retail.catalogue import Customer, build_customer, normalize_key
from cli.retail.countries import find_country_code
from cli.retail.lines import InvoiceFile, SalesLine
from services.orders.schemas import MAX_LINES, MAX_QUANTITY


@dataclass(frozen=True, slots=True)
class Invoice:
    """One invoice of one customer as the order that it becomes; lines of the same sku are one."""

    number: str
    customer: Customer
    time: datetime
    country: str
    lines: tuple[tuple[str, int], ...]

    @property
    def idempotency_key(self) -> str:
        """What the order is known by, whatever file it comes from: its Idempotency-Key."""
        return f"retail-invoice-{normalize_key(self.number)}-{self.customer.key}"

    @property
    def total_units(self) -> int:
        return sum(quantity for _, quantity in self.lines)

    @property
    def exceeded_limit(self) -> str | None:
        """Which limit of the API the order would break."""
        if len(self.lines) > MAX_LINES:
            return f"{len(self.lines)} different products; an order has at most {MAX_LINES}"
        excess_lines = [(sku, quantity) for sku, quantity in self.lines if quantity > MAX_QUANTITY]
        return (
            f"{excess_lines[0][1]} of {excess_lines[0][0]}; a line has at most {MAX_QUANTITY}" if excess_lines else None
        )


@dataclass(frozen=True, slots=True)
class Cancellation:
    """All of an order was given back, the last of it at `time`, by these invoices."""

    order: Invoice
    time: datetime
    return_numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Units that came back without undoing an order: a part of one (`order` names it), or of none that the files
    hold.
    """

    invoice: str
    sku: str
    quantity: int
    order: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Returns:
    cancellations: list[Cancellation]
    leftovers: list[Leftover]

    @property
    def partial_returns(self) -> list[Leftover]:
        return [leftover for leftover in self.leftovers if leftover.order]

    @property
    def unmatched_returns(self) -> list[Leftover]:
        return [leftover for leftover in self.leftovers if not leftover.order]


def build_invoices(files: Iterable[InvoiceFile]) -> list[Invoice]:
    """In the order of their time. An invoice with several customers is an order for each."""
    return _group_lines(line for file in files for line in file.sales)


def _group_lines(lines: Iterable[SalesLine]) -> list[Invoice]:
    groups: defaultdict[tuple[str, str | None], list[SalesLine]] = defaultdict(list)
    for line in lines:
        groups[line.invoice, line.customer].append(line)
    return sorted(
        (_build_invoice(group) for group in groups.values()),
        key=lambda invoice: (invoice.time, invoice.number, invoice.customer.key),
    )


def _build_invoice(lines: list[SalesLine]) -> Invoice:
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.sku] += line.quantity
    first = lines[0]
    return Invoice(
        first.invoice,
        build_customer(first),
        min(line.time for line in lines),
        find_country_code(first.country),
        tuple(sorted(quantities.items())),
    )


def match_returns(files: Iterable[InvoiceFile], orders: Iterable[Invoice]) -> Returns:
    """Each return is given to earlier orders of the same customer: first to one that it gives back exactly, then to all
    that it gives back whole, then to one that holds everything in it, then piece by piece; of several the latest. An
    order is cancelled when nothing of it is left.
    """
    open_orders: defaultdict[str, list[_OpenOrder]] = defaultdict(list)
    for order in orders:
        open_orders[order.customer.key].insert(0, _OpenOrder(order, Counter(dict(order.lines)), []))
    lines = [line for file in files for line in file.returns]
    return_invoices = _group_lines(line for line in lines if line.customer is not None)
    leftovers = [
        Leftover(line.invoice, line.sku, line.quantity, None, "a guest's: nobody to match it with")
        for line in lines
        if line.customer is None
    ]
    for returned in return_invoices:
        unmatched_units = Counter(dict(returned.lines))
        earlier_orders = [
            candidate for candidate in open_orders[returned.customer.key] if candidate.order.time <= returned.time
        ]
        _match_return(returned, unmatched_units, earlier_orders)
        leftovers += [
            Leftover(returned.number, sku, quantity, None, "no earlier order of the files has it")
            for sku, quantity in unmatched_units.items()
            if quantity
        ]
    entries = [entry for candidates in open_orders.values() for entry in candidates if entry.returned_units]
    fully_returned = [entry for entry in entries if not entry.open_units.total()]
    for entry in entries:
        if entry.open_units.total():
            leftovers += [
                Leftover(by.number, sku, quantity, entry.order.number, "a part of the order")
                for by, sku, quantity in entry.returned_units
            ]
    cancellations = [
        Cancellation(
            entry.order,
            max(by.time for by, _, _ in entry.returned_units),
            tuple(sorted({by.number for by, _, _ in entry.returned_units})),
        )
        for entry in fully_returned
    ]
    return Returns(
        sorted(cancellations, key=lambda each: (each.time, each.order.number)),
        sorted(leftovers, key=lambda each: (each.invoice, each.sku)),
    )


@dataclass(slots=True)
class _OpenOrder:
    """What is left of an order, and which returns took the rest."""

    order: Invoice
    open_units: Counter[str]
    returned_units: list[tuple[Invoice, str, int]]

    def apply_return(self, returned: Invoice, unmatched_units: Counter[str]) -> None:
        for sku in list(unmatched_units):
            quantity = min(self.open_units[sku], unmatched_units[sku])
            if quantity:
                self.open_units[sku] -= quantity
                unmatched_units[sku] -= quantity
                self.returned_units.append((returned, sku, quantity))


def _match_return(returned: Invoice, unmatched_units: Counter[str], earlier_orders: list[_OpenOrder]) -> None:
    for is_fit in (
        lambda entry: entry.open_units == unmatched_units,
        lambda entry: entry.open_units <= unmatched_units,
        lambda entry: entry.open_units >= unmatched_units,
        lambda entry: True,
    ):
        for entry in earlier_orders:
            if unmatched_units.total() and entry.open_units.total() and is_fit(entry):
                entry.apply_return(returned, unmatched_units)
