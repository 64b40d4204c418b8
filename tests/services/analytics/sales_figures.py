"""Figures of a folder of sales files, computed from the CSV alone: the standard library, and none of the shop's code.

The rules are those of docs/reference/sales-files.md for the Online Retail set, and of docs/how-to/import-and-replay.md:
an invoice of a customer is an order at the catalogue's prices, and is given back when returns give back all of it.
"""

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path

MAX_QUANTITY, MAX_LINES = 1_000_000, 1_000


@dataclass
class CsvOrder:
    """An invoice of a customer: `lines` are pieces by sku."""

    invoice: str
    customer: str
    country: str
    time: datetime
    lines: Counter[str] = field(default_factory=Counter)
    is_given_back: bool = False


@dataclass
class CsvFigures:
    orders: list[CsvOrder]
    prices: dict[str, int]

    def get_amount(self, order: CsvOrder) -> int:
        return sum(pieces * self.prices[sku] for sku, pieces in order.lines.items())


def _read_rows(folder: Path) -> Iterable[dict[str, str]]:
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)


def compute_figures(folder: Path) -> CsvFigures:
    orders: dict[tuple[str, str], CsvOrder] = {}
    returned: dict[tuple[str, str], tuple[datetime, Counter[str]]] = {}
    seen: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for row in _read_rows(folder):
        invoice, sku = row["InvoiceNo"].strip().upper(), row["StockCode"].strip().upper()
        pieces, pence = int(row["Quantity"]), Decimal(row["UnitPrice"]) * 100
        if not re.search(r"[0-9]{4}", sku) or sku.startswith("GIFT") or pence <= 0 or pence != int(pence):
            continue
        customer = row["CustomerID"].strip().removesuffix(".0") or f"guest-{invoice}"
        time = datetime.fromisoformat(row["InvoiceDate"].strip())
        if invoice.startswith("C") and pieces < 0:
            if row["CustomerID"].strip():
                returned.setdefault((invoice, customer), (time, Counter()))[1][sku] -= pieces
        elif not invoice.startswith("C") and pieces > 0:
            order = orders.setdefault((invoice, customer), CsvOrder(invoice, customer, row["Country"].strip(), time))
            order.time = min(order.time, time)
            order.lines[sku] += pieces
            seen[sku][int(pence)] += 1
    prices = {sku: min(found, key=lambda price: (-found[price], price)) for sku, found in seen.items()}
    _mark_given_back(orders.values(), returned)
    placed = [
        order
        for order in orders.values()
        if len(order.lines) <= MAX_LINES and max(order.lines.values()) <= MAX_QUANTITY
    ]
    return CsvFigures(placed, prices)


def _mark_given_back(
    orders: Collection[CsvOrder], returned: dict[tuple[str, str], tuple[datetime, Counter[str]]]
) -> None:
    """Each return takes from its customer's earlier orders, the latest first: one that equals it, then those that are
    wholly in it, then one that it is wholly in, then whatever has a piece of it.
    """
    left = {id(order): Counter(order.lines) for order in orders}
    latest_first = sorted(orders, key=lambda order: (order.time, order.invoice), reverse=True)
    for (_, customer), (time, pieces) in sorted(returned.items(), key=lambda item: (item[1][0], item[0])):
        mine = [order for order in latest_first if order.customer == customer and order.time <= time]
        for attempt in range(4):
            for order in mine:
                open_pieces = left[id(order)]
                fits = (open_pieces == pieces, open_pieces <= pieces, open_pieces >= pieces, True)[attempt]
                if fits and pieces.total() and open_pieces.total():
                    taken = open_pieces & pieces
                    open_pieces.subtract(taken)
                    pieces.subtract(taken)
    for order in orders:
        order.is_given_back = not left[id(order)].total()
