"""The commands that inventory takes and the events that it publishes."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from caravan.messages import Command, Event, Queue, Topic

MovementKind = Literal["receive", "adjust", "count", "return", "reserve", "release", "ship"]


class StockLine(BaseModel):
    """A sku and a quantity above zero; within one message each sku stands once."""

    sku: str
    quantity: int


class Shortage(BaseModel):
    sku: str
    wanted: int
    available: int


class ReserveStock(Command):
    """Reserve all lines for an order, or none. Answered by InventoryReserved or InventoryRejected, the same again for a
    repeated order id; by InventoryReleased when it was given back meanwhile.
    """

    order_id: UUID
    lines: list[StockLine]


class ReleaseStock(Command):
    """Give back what is reserved for an order; nothing happens when nothing is. Answered by InventoryReleased."""

    order_id: UUID
    reason: str


class InventoryReserved(Event):
    order_id: UUID


class InventoryRejected(Event):
    order_id: UUID
    shortages: list[Shortage]


class InventoryReleased(Event):
    """A reservation ended without shipment: `reason` is the command's, or `expired`."""

    order_id: UUID
    reason: str


class StockChanged(Event):
    """Stock of one sku after it changed; `stock_version` rises with each change; quick changes come as one event."""

    sku: str
    on_hand: int
    reserved: int
    available: int
    stock_version: int


RESERVE_STOCK = Queue(
    "inventory.reserve-stock",
    owner="inventory",
    commands=(ReserveStock,),
    key="order id",
    purpose="Reserve the stock of an order.",
)
RELEASE_STOCK = Queue(
    "inventory.release-stock",
    owner="inventory",
    commands=(ReleaseStock,),
    key="order id",
    purpose="Undo a reservation.",
)
INVENTORY_RESERVED = Topic(
    "inventory-reserved",
    owner="inventory",
    events=(InventoryReserved,),
    key="order id",
    purpose="All lines of an order are reserved.",
)
INVENTORY_REJECTED = Topic(
    "inventory-rejected",
    owner="inventory",
    events=(InventoryRejected,),
    key="order id",
    purpose="An order can't be served from stock.",
)
INVENTORY_RELEASED = Topic(
    "inventory-released",
    owner="inventory",
    events=(InventoryReleased,),
    key="order id",
    purpose="A reservation was given back or expired.",
)
STOCK_CHANGED = Topic(
    "stock-changed", owner="inventory", events=(StockChanged,), key="sku", purpose="Stock of a sku after it changed."
)
CHANNELS = (RESERVE_STOCK, RELEASE_STOCK, INVENTORY_RESERVED, INVENTORY_REJECTED, INVENTORY_RELEASED, STOCK_CHANGED)
