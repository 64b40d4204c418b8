"""What the books of the services and of the provider show of one order."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

ORDER_SERVICES = ("orders", "processing", "payments", "inventory", "shipping")
"""Those whose books tell of an order, each in the database of its name."""


@dataclass(frozen=True, slots=True)
class OrderPage:
    """In the books of orders: its events, each as whether it happened. `amount` in minor units."""

    changed_at: datetime
    is_paid: bool
    is_shipped: bool
    is_delivered: bool
    is_undone: bool
    amount: int | None
    currency: str | None
    units: dict[str, int]


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """In the books of payments. `captured`: the attempts that brought money; `refunded`: what went back, None while it
    is on its way.
    """

    changed_at: datetime
    is_open: bool
    amount: int
    currency: str
    captured: tuple[int, ...]
    refunded: int | None


@dataclass(frozen=True, slots=True)
class ReservationPage:
    changed_at: datetime
    state: str
    units: dict[str, int]


@dataclass(frozen=True, slots=True)
class ShipmentPage:
    changed_at: datetime
    is_shipped: bool
    units: dict[str, int]


@dataclass(frozen=True, slots=True)
class SagaPage:
    started_at: datetime
    is_closed: bool


@dataclass(frozen=True, slots=True)
class StatementLine:
    """An entry of the provider's books that moved money: `capture` or `refund`."""

    key: str
    kind: str
    amount: int
    currency: str
    at: datetime


@dataclass(slots=True)
class OrderBooks:
    order_id: UUID
    order: OrderPage | None = None
    payment: PaymentPage | None = None
    reservation: ReservationPage | None = None
    shipment: ShipmentPage | None = None
    saga: SagaPage | None = None
    lines: list[StatementLine] = field(default_factory=list)
    has_unsent: bool = False
    """Whether a message of the order waits in an outbox."""

    def get_changed_at(self) -> datetime | None:
        """The last change in any of the books; None when none knows the order."""
        return max(self._list_times(), default=None)

    def _list_times(self) -> Iterator[datetime]:
        for page in (self.order, self.payment, self.reservation, self.shipment):
            if page is not None:
                yield page.changed_at
        if self.saga is not None:
            yield self.saga.started_at
        for line in self.lines:
            yield line.at
