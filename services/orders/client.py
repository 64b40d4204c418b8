"""What orders answers to other services."""

from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation


class OrderOwnerRequest(BaseModel):
    order_id: UUID


class OrderOwner(BaseModel):
    """Whose order it is."""

    user_id: UUID


class RecentOrdersRequest(BaseModel):
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


GET_ORDER_OWNER = Operation("orders", "owner", OrderOwnerRequest, OrderOwner)
"""Raises NotFound for an unknown order."""
LIST_RECENT_ORDERS = Operation("orders", "recent", RecentOrdersRequest, RecentOrders, owner="user_id")
