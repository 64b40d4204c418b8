"""A shipment and the answer to whoever wants to stop it.

move \\ from   (none)      requested   booking   shipped     delivered   cancelled
ship order     requested   -           -         -           -           -
due            -           booking     booking   delivered²  -           -
handed over    -           -           shipped   -           -           -
cancel         cancelled   cancelled   (wait)¹   (too late)  (too late)  (same)

¹ the carrier is being called: OrderShipped follows, which is the answer   ² once the carrier says so
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from caravan.messages import Delivery
from services.shipping.messages import OrderShipped, Parcel, ShipmentCancelled, ShipmentStatus


@dataclass(slots=True)
class Shipment:
    """`parcels` is JSON."""

    order_id: UUID
    status: ShipmentStatus
    email: str
    parcels: str
    carrier: str
    tracking_number: str
    shipped_at: datetime | None
    traceparent: str | None
    actor: str | None
    cause: UUID | None

    def build_cancel_reply(self) -> ShipmentCancelled | OrderShipped | None:
        match self.status:
            case "cancelled":
                return ShipmentCancelled(order_id=self.order_id)
            case "shipped" | "delivered":
                return self.build_order_shipped()
            case _:
                return None

    def build_order_shipped(self) -> OrderShipped:
        parcels = [Parcel(**parcel) for parcel in orjson.loads(self.parcels)]
        return OrderShipped(
            order_id=self.order_id,
            email=self.email,
            carrier=self.carrier,
            tracking_number=self.tracking_number,
            parcels=parcels,
        )

    def restore_command(self, now: datetime) -> Delivery[Any] | None:
        """The command behind it, as far as it was kept: what is published names it and stays in its trace."""
        return Delivery(None, self.cause, str(self.order_id), now, self.traceparent, self.actor) if self.cause else None
