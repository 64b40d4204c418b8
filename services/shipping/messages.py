"""The commands that shipping takes and the events that it publishes."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from caravan.messages import KEPT, Command, Event, Queue, Topic

ShipmentStatus = Literal["requested", "booking", "shipped", "delivered", "cancelled"]


class Parcel(BaseModel):
    sku: str
    quantity: int


class ShipOrder(Command):
    """Send the parcels of an order, once per order id."""

    order_id: UUID
    email: str
    recipient: str
    address: str
    parcels: list[Parcel]


class CancelShipment(Command):
    """Stop a shipment that the carrier has not picked up. Answered by ShipmentCancelled (also when there is none), or
    by OrderShipped when it was too late.
    """

    order_id: UUID


class OrderShipped(Event):
    order_id: UUID
    email: str
    carrier: str
    tracking_number: str
    parcels: list[Parcel]


class OrderDelivered(Event):
    order_id: UUID
    tracking_number: str


class ShipmentCancelled(Event):
    order_id: UUID


SHIP_ORDER = Queue(
    "shipping.ship-order",
    owner="shipping",
    commands=(ShipOrder, CancelShipment),
    key="order id",
    purpose="Send an order's parcels, or stop them.",
)
ORDER_SHIPPED = Topic(
    "order-shipped",
    owner="shipping",
    events=(OrderShipped,),
    key="order id",
    purpose="The carrier has the parcels.",
    retention=KEPT,
)
ORDER_DELIVERED = Topic(
    "order-delivered",
    owner="shipping",
    events=(OrderDelivered,),
    key="order id",
    purpose="The parcels arrived.",
    retention=KEPT,
)
SHIPMENT_CANCELLED = Topic(
    "shipment-cancelled",
    owner="shipping",
    events=(ShipmentCancelled,),
    key="order id",
    purpose="A shipment was stopped in time.",
)
CHANNELS = (SHIP_ORDER, ORDER_SHIPPED, ORDER_DELIVERED, SHIPMENT_CANCELLED)
