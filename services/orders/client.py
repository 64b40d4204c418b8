"""What orders answers to other services."""

from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation


class OwnerRequest(BaseModel):
    order_id: UUID


class Owner(BaseModel):
    """Whose order it is."""

    user_id: UUID


class RecentRequest(BaseModel):
    user_id: UUID
    limit: int = 5


class OrderSummary(BaseModel):
    id: UUID
    status: str
    total: int
    currency: str
    placed_at: str


class RecentOrders(BaseModel):
    items: list[OrderSummary]


OWNER = Operation("orders", "owner", OwnerRequest, Owner)
"""Raises NotFound for an unknown order."""
RECENT = Operation("orders", "recent", RecentRequest, RecentOrders, owner="user_id")
