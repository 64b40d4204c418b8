"""The HTTP shapes of the gateway's own routes."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

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


class MessageDelivery(BaseModel):
    """How often a consumer got a message, and how often it had an effect."""

    consumer: str
    deliveries: int
    effects: int
    handled_at: datetime


class TimelineItem(BaseModel):
    """One thing that happened to an order. `time` is what the clock of its service said; `causal_time` is no earlier
    than that of its cause. `cause` is the id of another item; staff also see ids of messages that are not known any
    more. `state` is what the `subject` is like from then on.
    """

    id: str = Field(examples=["event:3"])
    source: str = Field(examples=["events"])
    kind: str = Field(examples=["PaymentCompleted"])
    subject: str = Field(examples=["order"])
    time: datetime
    causal_time: datetime
    cause: str | None
    actor: str | None
    trace_id: str | None
    state: dict[str, Any]
    details: dict[str, Any]
    deliveries: list[MessageDelivery]


class MissingSource(BaseModel):
    """A source of which something is missing: all of it, or what is from `before` a time."""

    source: str
    service: str
    reason: str
    before: datetime | None


class TimelineChange(BaseModel):
    subject: str
    field: str
    before: Any
    after: Any


class TimelineDifference(BaseModel):
    """What changed after `since` and until `until`, by causal time; `items` are the ids of what happened meanwhile."""

    since: datetime | None
    until: datetime
    changes: list[TimelineChange]
    items: list[str]


class Timeline(BaseModel):
    """What happened to an order, causes first. `partial` names what is missing, and why."""

    order_id: UUID
    items: list[TimelineItem]
    partial: list[MissingSource]
    difference: TimelineDifference | None
