"""What one service tells of itself in one process, and the operation that asks for it."""

from datetime import datetime
from functools import cache

from pydantic import BaseModel, Field

from caravan.client import Operation

MAX_ITEMS = 200
"""Of each list of an answer."""


class StatusRequest(BaseModel):
    pass


class Flow(BaseModel):
    """How many since the process began, and how many a second lately; null until it has been measured twice."""

    total: float = 0
    per_second: float | None = None


class RequestFlow(BaseModel):
    """Requests from clients and from the gateway. `failed`: those answered with a status of 500 or more."""

    answered: Flow
    failed: Flow
    mean_seconds: float | None = Field(description="lately; null while there were none")


class OutboxStatus(BaseModel):
    """Messages of the service that the bus has not taken yet; `refused`: those that it never will."""

    pending: int
    oldest_seconds: float
    refused: int


class PublishedFlow(BaseModel):
    """Messages of one channel that this process has published."""

    channel: str
    messages: Flow


class SubscriptionFlow(BaseModel):
    """Messages of one channel for one consumer group of this service. `waiting` and `consumers` are those of all
    processes, as this one measured them last.
    """

    group: str | None = Field(None, description="null from a process that was not updated yet: the service's own")
    channel: str
    handled: Flow
    duplicates: Flow = Field(description="came again after they had been handled, and changed nothing")
    retries: Flow = Field(description="failed, and are tried again")
    dead_letters: Flow = Field(description="given up")
    waiting: int | None
    oldest_seconds: float | None = Field(None, description="for how long the oldest has waited, as far as it is known")
    consumers: int | None = Field(description="that RabbitMQ knows; null elsewhere")


class BreakerStatus(BaseModel):
    """What stands before the calls of this service to another one. While it is open, nobody is asked until `until`."""

    target: str
    state: str = Field(description="closed, half-open or open")
    cause: str | None = Field(description="why it opened the last time")
    until: datetime | None


class CacheStatus(BaseModel):
    """Reads of the shared cache by how they were answered; `hit_share` is of those lately, else of all."""

    is_available: bool
    hits: Flow
    stale: Flow = Field(description="answered while it was made anew")
    misses: Flow
    collapsed: Flow = Field(description="waited for another reader's computation")
    bypassed: Flow = Field(description="computed without the cache")
    hit_share: float | None


class ServiceStatus(BaseModel):
    """`instance` is the process: services that run in one say the same. `window_seconds` is what the rates are of."""

    service: str
    instance: str
    version: str
    started_at: datetime
    not_ready: list[str]
    warnings: list[str]
    window_seconds: float | None
    requests: RequestFlow
    outbox: OutboxStatus | None
    published: list[PublishedFlow] = Field(max_length=MAX_ITEMS)
    subscriptions: list[SubscriptionFlow] = Field(max_length=MAX_ITEMS)
    breakers: list[BreakerStatus] = Field(max_length=MAX_ITEMS)
    cache: CacheStatus | None
    projections: list[str] = Field([], max_length=MAX_ITEMS, description="read models that can be made anew")


@cache
def build_status_operation(service: str) -> Operation[StatusRequest, ServiceStatus]:
    return Operation(service, "status", StatusRequest, ServiceStatus, seconds=1.0)
