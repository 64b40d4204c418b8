"""Invoices as orders, and returns matched with the orders that they give back."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from services.cli.retail.catalogue import Customer, as_key, customer_of
from services.cli.retail.countries import country_code
from services.cli.retail.lines import InvoiceFile, Line
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
    def key(self) -> str:
        """What the order is known by, whatever file it comes from: its Idempotency-Key."""
        return f"retail-invoice-{as_key(self.number)}-{self.customer.key}"

    @property
    def units(self) -> int:
        return sum(quantity for _, quantity in self.lines)

    @property
    def beyond(self) -> str | None:
        """Which limit of the API the order would break."""
        if len(self.lines) > MAX_LINES:
            return f"{len(self.lines)} different products; an order has at most {MAX_LINES}"
        over = [(sku, quantity) for sku, quantity in self.lines if quantity > MAX_QUANTITY]
        return f"{over[0][1]} of {over[0][0]}; a line has at most {MAX_QUANTITY}" if over else None


@dataclass(frozen=True, slots=True)
class Cancellation:
    """All of an order was given back, the last of it at `time`, by these invoices."""

    order: Invoice
    time: datetime
    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Units that came back without undoing an order: a part of one (`order` names it), or of none that the files hold."""

    invoice: str
    sku: str
    quantity: int
    order: str | None
    why: str


@dataclass(frozen=True, slots=True)
class Returns:
    cancellations: list[Cancellation]
    leftovers: list[Leftover]

    @property
    def partial(self) -> list[Leftover]:
        return [leftover for leftover in self.leftovers if leftover.order]

    @property
    def unmatched(self) -> list[Leftover]:
        return [leftover for leftover in self.leftovers if not leftover.order]


def invoices(files: Iterable[InvoiceFile]) -> list[Invoice]:
    """In the order of their time. An invoice with several customers is an order for each."""
    return _grouped(line for file in files for line in file.sales)


def _grouped(lines: Iterable[Line]) -> list[Invoice]:
    groups: defaultdict[tuple[str, str | None], list[Line]] = defaultdict(list)
    for line in lines:
        groups[line.invoice, line.customer].append(line)
    return sorted((_invoice(group) for group in groups.values()), key=lambda invoice: (invoice.time, invoice.number, invoice.customer.key))


def _invoice(lines: list[Line]) -> Invoice:
    quantities: Counter[str] = Counter()
    for line in lines:
        quantities[line.sku] += line.quantity
    first = lines[0]
    return Invoice(
        first.invoice, customer_of(first), min(line.time for line in lines), country_code(first.country), tuple(sorted(quantities.items()))
    )


def match_returns(files: Iterable[InvoiceFile], orders: Iterable[Invoice]) -> Returns:
    """Each return is given to earlier orders of the same customer: first to one that it gives back exactly, then to all that it gives back whole, then to one
    that holds everything in it, then piece by piece; of several the latest. An order is cancelled when nothing of it is left."""
    bought: defaultdict[str, list[_Open]] = defaultdict(list)
    for order in orders:
        bought[order.customer.key].insert(0, _Open(order, Counter(dict(order.lines)), []))
    lines = [line for file in files for line in file.returns]
    known = _grouped(line for line in lines if line.customer is not None)
    leftovers = [
        Leftover(line.invoice, line.sku, line.quantity, None, "a guest's: nobody to match it with")
        for line in lines
        if line.customer is None
    ]
    for back in known:
        rest = Counter(dict(back.lines))
        earlier = [candidate for candidate in bought[back.customer.key] if candidate.order.time <= back.time]
        _give_back(back, rest, earlier)
        leftovers += [
            Leftover(back.number, sku, quantity, None, "no earlier order of the files has it") for sku, quantity in rest.items() if quantity
        ]
    entries = [entry for candidates in bought.values() for entry in candidates if entry.taken]
    whole = [entry for entry in entries if not entry.left.total()]
    for entry in entries:
        if entry.left.total():
            leftovers += [
                Leftover(by.number, sku, quantity, entry.order.number, "a part of the order") for by, sku, quantity in entry.taken
            ]
    cancellations = [
        Cancellation(entry.order, max(by.time for by, _, _ in entry.taken), tuple(sorted({by.number for by, _, _ in entry.taken})))
        for entry in whole
    ]
    return Returns(
        sorted(cancellations, key=lambda each: (each.time, each.order.number)), sorted(leftovers, key=lambda each: (each.invoice, each.sku))
    )


@dataclass(slots=True)
class _Open:
    """What is left of an order, and which returns took the rest."""

    order: Invoice
    left: Counter[str]
    taken: list[tuple[Invoice, str, int]]

    def take(self, back: Invoice, rest: Counter[str]) -> None:
        for sku in list(rest):
            quantity = min(self.left[sku], rest[sku])
            if quantity:
                self.left[sku] -= quantity
                rest[sku] -= quantity
                self.taken.append((back, sku, quantity))


def _give_back(back: Invoice, rest: Counter[str], earlier: list[_Open]) -> None:
    for fits in (lambda entry: entry.left == rest, lambda entry: entry.left <= rest, lambda entry: entry.left >= rest, lambda entry: True):
        for entry in earlier:
            if rest.total() and entry.left.total() and fits(entry):
                entry.take(back, rest)
