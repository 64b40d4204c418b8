"""Writes the books of an order, right or wrong, into the databases of the services by SQL, as if it had happened."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from caravan.clock import new_id, utc_now
from caravan.runtime import Backends

DELIVERED = ("OrderCreated", "InventoryReserved", "PaymentCompleted", "OrderShipped", "OrderDelivered")
CANCELLED = ("OrderCreated", "InventoryReserved", "PaymentCompleted", "CancellationRequested", "OrderCancelled")
DECLINED = ("OrderCreated", "InventoryReserved", "PaymentFailed")
DATABASES = ("orders", "processing", "payments", "inventory", "shipping")
AGE = timedelta(seconds=5)
"""Older than what is left alone, and young enough to be noticed as a change."""
TOTAL = 2500


@dataclass
class Order:
    """A delivered order. `ledger`: key, kind, amount, currency at the provider; by default as our own books say."""

    events: tuple[str, ...] = DELIVERED
    total: int = TOTAL
    currency: str = "GBP"
    paid: int | None = None
    paid_currency: str = "GBP"
    captured: tuple[int, ...] = (1,)
    payment: str = "completed"
    refunded: int = 0
    ledger: tuple[tuple[str, str, int, str], ...] | None = None
    reservation: str = "shipped"
    reserved_units: int = 2
    shipment: str = "delivered"
    shipped_units: int = 2
    closed: bool = True
    age: timedelta = AGE
    id: UUID = field(default_factory=new_id)

    @property
    def amount(self) -> int:
        return self.total if self.paid is None else self.paid

    def list_ledger(self) -> list[tuple[str, str, int, str]]:
        if self.ledger is not None:
            return [(key.replace("{id}", str(self.id)), *rest) for key, *rest in self.ledger]  # type: ignore[misc]
        lines = [(f"{self.id}:{attempt}", "capture", self.amount, self.paid_currency) for attempt in self.captured]
        refund = [(f"{self.id}:refund", "refund", self.refunded, self.paid_currency)] if self.refunded else []
        return lines + refund


def cancelled(**changes: Any) -> Order:
    """Its money given back."""
    fields: dict[str, Any] = {
        "events": CANCELLED,
        "payment": "refunded",
        "refunded": TOTAL,
        "reservation": "released",
        "shipment": "cancelled",
    }
    return Order(**fields | changes)


def declined(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "events": DECLINED,
        "payment": "failed",
        "captured": (),
        "reservation": "released",
        "shipment": "",
    }
    return Order(**fields | changes)


@dataclass
class Planter:
    """Its connections are those of the databases' owners."""

    connections: dict[str, asyncpg.Connection]
    sku: str = field(default_factory=lambda: f"SKU-{new_id().hex[-12:]}")

    async def plant_order(self, order: Order) -> UUID:
        now = utc_now()
        time = now - order.age
        if order.events:
            await self._plant_events(order, time)
        await self._plant_payment(order, time)
        if order.reservation:
            lines = json.dumps({self.sku: order.reserved_units})
            await self.connections["inventory"].execute(
                "INSERT INTO reservation (order_id, state, lines, shortages, reason, created_at, updated_at)"
                " VALUES ($1, $2, $3, '[]', '', $4, $4)",
                order.id,
                order.reservation,
                lines,
                time,
            )
        if order.shipment:
            parcels = json.dumps([{"sku": self.sku, "quantity": order.shipped_units}])
            await self.connections["shipping"].execute(
                "INSERT INTO shipment (order_id, status, parcels, requested_at, due_at)"
                " VALUES ($1, $2::text, $3, $4, CASE WHEN $2 = 'shipped' THEN $4::timestamptz END)",
                order.id,
                order.shipment,
                parcels,
                time,
            )
        return order.id

    async def _plant_events(self, order: Order, time: datetime) -> None:
        created = {
            "total": {"amount": order.total, "currency": order.currency},
            "lines": [{"sku": self.sku, "name": "Tea", "quantity": 2, "unit_price": order.total // 2}],
        }
        await self.connections["orders"].executemany(
            "INSERT INTO event (stream, version, type, data_version, data, time) VALUES ($1, $2, $3, $4, $5, $6)",
            [
                (order.id, version, f"orders.{name}", 2, json.dumps(created if version == 1 else {}), time)
                for version, name in enumerate(order.events, 1)
            ],
        )
        await self.connections["processing"].execute(
            "INSERT INTO saga (order_id, stock, money, parcel, reason, captured, refunded, processed, closed, version,"
            " started_at, deadline) VALUES ($1, 'held', 'captured', 'delivered', '', 0, 0, true, $2, 1, $3, NULL)",
            order.id,
            order.closed,
            time,
        )

    async def _plant_payment(self, order: Order, time: datetime) -> None:
        payments = self.connections["payments"]
        await payments.execute(
            "INSERT INTO payment (order_id, status, amount, currency, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $5)",
            order.id,
            order.payment,
            order.amount,
            order.paid_currency,
            time,
        )
        await payments.executemany(
            "INSERT INTO payment_attempt (order_id, attempt, state, charge, started_at, finished_at)"
            " VALUES ($1, $2, 'captured', 'ch_1', $3, $3)",
            [(order.id, attempt, time) for attempt in order.captured],
        )
        if order.captured:
            await payments.execute(
                "INSERT INTO invoice (number, order_id, issued_at) VALUES ($1, $2, $3)",
                order.id.int % 2**62,
                order.id,
                time,
            )
        if order.refunded:
            await payments.execute(
                "INSERT INTO refund (order_id, state, amount, reason, requested_at, refunded_at)"
                " VALUES ($1, 'done', $2, 'cancelled', $3, $3)",
                order.id,
                order.refunded,
                time,
            )
        await self.plant_ledger(order.list_ledger(), str(order.id), time)

    async def plant_ledger(self, lines: list[tuple[str, str, int, str]], reference: str, time: datetime) -> None:
        await self.connections["payments"].executemany(
            "INSERT INTO provider_ledger (key, kind, reference, amount, currency, outcome, charge, at)"
            " VALUES ($1, $2, $3, $4, $5, CASE $2 WHEN 'capture' THEN 'captured' ELSE 'refunded' END, 'ch_1', $6)",
            [(key, kind, reference, amount, currency, time) for key, kind, amount, currency in lines],
        )

    async def plant_stock(self, received: int, reserved: int = 0, *, sku: str = "", on_hand: int | None = None) -> str:
        """A product whose row says `on_hand`, and its movements `received` and `reserved`."""
        inventory, sku = self.connections["inventory"], sku or f"SKU-{new_id().hex[-12:]}"
        moves = [("receive", received)] + ([("reserve", reserved)] if reserved else [])
        await inventory.executemany(
            "INSERT INTO movement (sku, version, kind, quantity, on_hand, reserved, actor, reason, time)"
            " VALUES ($1, $2, $3, $4, 0, 0, 'test', '', now())",
            [(sku, version, kind, quantity) for version, (kind, quantity) in enumerate(moves, 1)],
        )
        there = received if on_hand is None else on_hand
        await inventory.execute(
            "INSERT INTO stock (sku, on_hand, reserved, received, adjusted, version, announced)"
            " VALUES ($1, $2, $3, $4, $5, $6, $6)",
            sku,
            there,
            reserved,
            received,
            there - received,
            len(moves),
        )
        return sku


@asynccontextmanager
async def open_planter(backends: Backends) -> AsyncIterator[Planter]:
    connections = {name: await asyncpg.connect(backends.get_database_url(name)) for name in DATABASES}
    try:
        yield Planter(connections)
    finally:
        for connection in connections.values():
            await connection.close()
