"""The HTTP shapes of the gateway's own routes."""

from typing import Literal
from uuid import UUID

from pydantic import BaseModel

from caravan.money import Money

OverviewPart = Literal["profile", "orders", "notifications", "recommendations", "stock"]


class Profile(BaseModel):
    id: UUID
    email: str
    name: str
    role: str


class RecentOrder(BaseModel):
    id: UUID
    status: str
    total: Money
    placed_at: str


class LatestNotification(BaseModel):
    id: UUID
    kind: str
    channel: str
    state: str
    subject: str | None
    """None until it was tried for the first time."""
    created_at: str


class RecommendedProduct(BaseModel):
    sku: str
    name: str
    rule: str
    because: str | None
    available: int | None
    """None when stock could not be asked."""


class Overview(BaseModel):
    """A part that could not be had is null and named in `failed`; `partial` says that there is one."""

    profile: Profile | None
    orders: list[RecentOrder] | None
    notifications: list[LatestNotification] | None
    recommendations: list[RecommendedProduct] | None
    partial: bool
    failed: list[OverviewPart]
