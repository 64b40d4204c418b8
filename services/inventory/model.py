"""The rules of stock: what a movement does to the numbers of a sku, and how an order's units are reserved, released and shipped.

`on_hand` is what is physically here, the reserved units among it; `available = on_hand - reserved`. Two laws hold after every movement:

    0 <= reserved <= on_hand                                  nothing is promised twice
    available + reserved + shipped = received + adjusted      nothing appears or disappears without a movement

    state of a reservation   held → shipped, held → released (asked, cancelled or expired); rejected and released units may still turn out to be shipped
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from caravan.errors import Conflict
from services.inventory.messages import Shortage

Kind = Literal["receive", "adjust", "count", "return", "reserve", "release", "ship"]
State = Literal["held", "released", "shipped", "rejected"]


class NotPossible(Conflict):
    """A movement that would break a law."""

    title, slug = "Stock does not allow this movement", "stock-not-possible"


class Movement(NamedTuple):
    """A line of the ledger. `quantity` is signed for adjustments and counts (what was found more or less), `on_hand` and `reserved` are as it left them."""

    sku: str
    version: int
    kind: Kind
    quantity: int
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    time: datetime


class Deed(NamedTuple):
    """Who moves stock, why and when."""

    actor: str
    reason: str
    time: datetime
    order_id: UUID | None = None


@dataclass(slots=True)
class Stock:
    sku: str
    on_hand: int = 0
    reserved: int = 0
    shipped: int = 0
    received: int = 0
    adjusted: int = 0
    version: int = 0

    @property
    def available(self) -> int:
        return self.on_hand - self.reserved

    def receive(self, quantity: int) -> int:
        self.on_hand += quantity
        self.received += quantity
        return quantity

    def adjust(self, quantity: int) -> int:
        """`quantity` more, or less when negative: found, broken, stolen."""
        if self.available + quantity < 0:
            raise NotPossible(
                f"{self.sku}: {-quantity} can't be taken from {self.available} available ({self.on_hand} on hand, {self.reserved} reserved)"
            )
        self.on_hand += quantity
        self.adjusted += quantity
        return quantity

    def count(self, found: int) -> int:
        """So many were found in a stocktaking; the difference is an adjustment."""
        if found < self.reserved:
            raise NotPossible(f"{self.sku}: counted {found}, but {self.reserved} are reserved; cancel orders first, then count again")
        return self.adjust(found - self.on_hand)

    def take_back(self, quantity: int) -> int:
        """A customer sent units back."""
        if self.shipped < quantity:
            raise NotPossible(f"{self.sku}: {quantity} can't come back, {self.shipped} have been shipped")
        self.shipped -= quantity
        self.on_hand += quantity
        return quantity


@dataclass(slots=True)
class Reservation:
    """What is held for an order. `expires_at` is None once the order is paid: it waits for its shipment as long as that takes."""

    order_id: UUID
    state: State
    lines: dict[str, int]
    created_at: datetime
    updated_at: datetime
    shortages: list[Shortage] = field(default_factory=list)
    reason: str = ""
    expires_at: datetime | None = None


class Shelf:
    """The locked stock of some skus, and the movements made on it: decided in memory, in order, and written at once."""

    def __init__(self, stocks: Iterable[Stock]) -> None:
        self.stocks = {stock.sku: stock for stock in stocks}
        self.movements: list[Movement] = []

    def changed(self) -> dict[str, Stock]:
        return {movement.sku: self.stocks[movement.sku] for movement in self.movements}

    def move(self, sku: str, kind: Kind, quantity: int, deed: Deed) -> Movement:
        """A movement by hand. Raises NotPossible."""
        stock = self.stocks[sku]
        match kind:
            case "receive":
                done = stock.receive(quantity)
            case "adjust":
                done = stock.adjust(quantity)
            case "count":
                done = stock.count(quantity)
            case "return":
                done = stock.take_back(quantity)
            case _:
                raise NotPossible(f"{kind} is not done by hand")
        return self._record(stock, kind, done, deed)

    def reserve(self, order_id: UUID, lines: Mapping[str, int], deed: Deed, until: datetime) -> Reservation:
        """Hold all lines, or none."""
        short = [
            Shortage(sku=sku, wanted=wanted, available=found.available if found else 0)
            for sku, wanted in lines.items()
            if (found := self.stocks.get(sku)) is None or found.available < wanted
        ]
        if short:
            return Reservation(order_id, "rejected", dict(lines), deed.time, deed.time, short)
        for sku, wanted in lines.items():
            self._hold(self.stocks[sku], wanted, deed)
        return Reservation(order_id, "held", dict(lines), deed.time, deed.time, expires_at=until)

    def release(self, reservation: Reservation, deed: Deed) -> bool:
        """Give back what is held; False when nothing is."""
        if reservation.state != "held":
            return False
        for sku, quantity in reservation.lines.items():
            stock = self.stocks[sku]
            stock.reserved -= quantity
            self._record(stock, "release", quantity, deed)
        reservation.state, reservation.reason, reservation.updated_at = "released", deed.reason, deed.time
        return True

    def ship(self, reservation: Reservation, deed: Deed) -> list[Shortage]:
        """The parcels have left. What was not held any more is taken from what is free; what is not there either is returned: the book was wrong."""
        if reservation.state == "shipped":
            return []
        missing = []
        for sku, quantity in reservation.lines.items():
            stock = self.stocks.get(sku) or Stock(sku)
            if reservation.state != "held":
                free = min(quantity, stock.available)
                if free < quantity:
                    missing.append(Shortage(sku=sku, wanted=quantity, available=free))
                if free == 0:
                    continue
                quantity = free
                self._hold(stock, quantity, deed)
            stock.reserved -= quantity
            stock.on_hand -= quantity
            stock.shipped += quantity
            self._record(stock, "ship", quantity, deed)
        reservation.state, reservation.updated_at, reservation.expires_at = "shipped", deed.time, None
        return missing

    def _hold(self, stock: Stock, quantity: int, deed: Deed) -> None:
        stock.reserved += quantity
        self._record(stock, "reserve", quantity, deed)

    def _record(self, stock: Stock, kind: Kind, quantity: int, deed: Deed) -> Movement:
        stock.version += 1
        movement = Movement(
            stock.sku, stock.version, kind, quantity, stock.on_hand, stock.reserved, deed.order_id, deed.actor, deed.reason, deed.time
        )
        self.movements.append(movement)
        return movement
