"""The rules of stock: what a movement does to the numbers of a sku, and how an order's units are reserved, released and
shipped.

`on_hand` is what is physically here, the reserved units among it; `available = on_hand - reserved`. Two laws hold after
every movement:

    0 <= reserved <= on_hand                                  nothing is promised twice
    available + reserved + shipped = received + adjusted      nothing appears or disappears without a movement

    state of a reservation   held → shipped, held → released (asked, cancelled or expired); rejected and released units
    may still turn out to be shipped
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from caravan.errors import Conflict
from services.inventory.messages import MovementKind, Shortage

ReservationState = Literal["held", "released", "shipped", "rejected"]


class StockRuleViolation(Conflict):
    """A movement that would break a law."""

    title, slug = "Stock does not allow this movement", "stock-not-possible"


class Movement(NamedTuple):
    """A line of the ledger. `quantity` is signed for adjustments and counts (what was found more or less), `on_hand`
    and `reserved` are as it left them.
    """

    sku: str
    version: int
    kind: MovementKind
    quantity: int
    on_hand: int
    reserved: int
    order_id: UUID | None
    actor: str
    reason: str
    time: datetime


class MovementContext(NamedTuple):
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

    def receive_units(self, quantity: int) -> int:
        self.on_hand += quantity
        self.received += quantity
        return quantity

    def adjust_units(self, quantity: int) -> int:
        """`quantity` more, or less when negative: found, broken, stolen."""
        if self.available + quantity < 0:
            raise StockRuleViolation(
                f"{self.sku}: {-quantity} can't be taken from {self.available} available ({self.on_hand} on hand, "
                f"{self.reserved} reserved)"
            )
        self.on_hand += quantity
        self.adjusted += quantity
        return quantity

    def count_units(self, counted_units: int) -> int:
        """So many were found in a stocktaking; the difference is an adjustment."""
        if counted_units < self.reserved:
            raise StockRuleViolation(
                f"{self.sku}: counted {counted_units}, but {self.reserved} are reserved; cancel orders first, then "
                "count again"
            )
        return self.adjust_units(counted_units - self.on_hand)

    def receive_return(self, quantity: int) -> int:
        """A customer sent units back."""
        if self.shipped < quantity:
            raise StockRuleViolation(f"{self.sku}: {quantity} can't come back, {self.shipped} have been shipped")
        self.shipped -= quantity
        self.on_hand += quantity
        return quantity


@dataclass(slots=True)
class Reservation:
    """What is held for an order. `expires_at` is None once the order is paid: it waits for its shipment as long as that
    takes.
    """

    order_id: UUID
    state: ReservationState
    lines: dict[str, int]
    created_at: datetime
    updated_at: datetime
    shortages: list[Shortage] = field(default_factory=list)
    reason: str = ""
    expires_at: datetime | None = None


class StockLedger:
    """The locked stock of some skus, and the movements made on it: decided in memory, in order, and written at once."""

    def __init__(self, stocks: Iterable[Stock]) -> None:
        self.stocks = {stock.sku: stock for stock in stocks}
        self.movements: list[Movement] = []

    def get_changed_stocks(self) -> dict[str, Stock]:
        return {movement.sku: self.stocks[movement.sku] for movement in self.movements}

    def apply_movement(
        self, sku: str, kind: MovementKind, quantity: int, movement_context: MovementContext
    ) -> Movement:
        """A movement by hand. Raises StockRuleViolation."""
        stock = self.stocks[sku]
        match kind:
            case "receive":
                moved_units = stock.receive_units(quantity)
            case "adjust":
                moved_units = stock.adjust_units(quantity)
            case "count":
                moved_units = stock.count_units(quantity)
            case "return":
                moved_units = stock.receive_return(quantity)
            case _:
                raise StockRuleViolation(f"{kind} is not done by hand")
        return self._append_movement(stock, kind, moved_units, movement_context)

    def reserve_lines(
        self, order_id: UUID, lines: Mapping[str, int], movement_context: MovementContext, expires_at: datetime
    ) -> Reservation:
        """Hold all lines, or none."""
        shortages = [
            Shortage(sku=sku, wanted=quantity, available=stock.available if stock else 0)
            for sku, quantity in lines.items()
            if (stock := self.stocks.get(sku)) is None or stock.available < quantity
        ]
        if shortages:
            return Reservation(
                order_id, "rejected", dict(lines), movement_context.time, movement_context.time, shortages
            )
        for sku, quantity in lines.items():
            self._reserve_units(self.stocks[sku], quantity, movement_context)
        return Reservation(
            order_id, "held", dict(lines), movement_context.time, movement_context.time, expires_at=expires_at
        )

    def release_reservation(self, reservation: Reservation, movement_context: MovementContext) -> bool:
        """Give back what is held; False when nothing is."""
        if reservation.state != "held":
            return False
        for sku, quantity in reservation.lines.items():
            stock = self.stocks[sku]
            stock.reserved -= quantity
            self._append_movement(stock, "release", quantity, movement_context)
        reservation.state, reservation.reason, reservation.updated_at = (
            "released",
            movement_context.reason,
            movement_context.time,
        )
        return True

    def ship_reservation(self, reservation: Reservation, movement_context: MovementContext) -> list[Shortage]:
        """The parcels have left. What was not held any more is taken from what is free; what is not there either is
        returned: the book was wrong.
        """
        if reservation.state == "shipped":
            return []
        shortages = []
        for sku, ordered_quantity in reservation.lines.items():
            stock = self.stocks.get(sku) or Stock(sku)
            quantity = ordered_quantity
            if reservation.state != "held":
                quantity = min(ordered_quantity, stock.available)
                if quantity < ordered_quantity:
                    shortages.append(Shortage(sku=sku, wanted=ordered_quantity, available=quantity))
                if quantity == 0:
                    continue
                self._reserve_units(stock, quantity, movement_context)
            stock.reserved -= quantity
            stock.on_hand -= quantity
            stock.shipped += quantity
            self._append_movement(stock, "ship", quantity, movement_context)
        reservation.state, reservation.updated_at, reservation.expires_at = "shipped", movement_context.time, None
        return shortages

    def _reserve_units(self, stock: Stock, quantity: int, movement_context: MovementContext) -> None:
        stock.reserved += quantity
        self._append_movement(stock, "reserve", quantity, movement_context)

    def _append_movement(
        self, stock: Stock, kind: MovementKind, quantity: int, movement_context: MovementContext
    ) -> Movement:
        stock.version += 1
        movement = Movement(
            stock.sku,
            stock.version,
            kind,
            quantity,
            stock.on_hand,
            stock.reserved,
            movement_context.order_id,
            movement_context.actor,
            movement_context.reason,
            movement_context.time,
        )
        self.movements.append(movement)
        return movement
