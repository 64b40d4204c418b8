"""The HTTP shapes of shipping."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, Field

from services.shipping.messages import ShipmentStatus


class ParcelItem(BaseModel):
    sku: str
    quantity: int


class ShipmentDocument(BaseModel):
    """Where the parcels of an order are. Until it is `booking` a shipment can be stopped."""

    order_id: UUID
    status: ShipmentStatus
    carrier: str | None = Field(description="null before the carrier has the parcels")
    tracking_number: str | None
    parcels: list[ParcelItem]
    requested_at: datetime
    shipped_at: datetime | None
    delivered_at: datetime | None
    cancelled_at: datetime | None
