"""The shapes of `/v1/system`. What a service says of itself is in `caravan/status/schemas.py`."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from caravan.status import CacheStatus, Flow, OutboxStatus, RebuildProgress, RequestFlow

ServiceState = Literal["up", "degraded", "down"]


class SystemInstance(BaseModel):
    """A process that answered. Services that share one name the same id."""

    id: str = Field(examples=["shop-orders-7c9d:1"])
    url: str | None = Field(description="null for the process that answers you")
    version: str
    started_at: datetime
    uptime_seconds: float
    not_ready: list[str] = Field(description="what it waits for")
    warnings: list[str] = Field(description="what works, but should be put right")


class SystemService(BaseModel):
    """A service over all its processes. `state`: up when all answered and are ready, down when none did."""

    name: str
    state: ServiceState
    reasons: list[str] = Field(description="why it is not up")
    instances: list[SystemInstance]
    requests: RequestFlow
    published: Flow = Field(description="messages that the bus took")
    handled: Flow = Field(description="messages that had their effect")
    duplicates: Flow = Field(description="messages that came again and changed nothing")
    retries: Flow = Field(description="attempts that failed and are made again")
    dead_letters: Flow = Field(description="messages given up")
    waiting: int = Field(description="messages that wait for it")
    outbox: OutboxStatus | None


class SystemSubscription(BaseModel):
    service: str
    group: str = Field(description="the consumer group: the service's name, or that of one which reads beside it")
    handled: Flow
    duplicates: Flow
    retries: Flow
    dead_letters: Flow
    waiting: int | None = Field(description="messages that wait; null while that is not known")
    consumers: int | None = Field(description="that RabbitMQ knows; null elsewhere")


class SystemChannel(BaseModel):
    """A channel, who publishes to it, and who reads it."""

    name: str
    type: Literal["topic", "queue", "exchange"]
    purpose: str
    published: Flow
    publishers: list[str]
    subscriptions: list[SystemSubscription]


class SystemBreaker(BaseModel):
    """What stands before calls of one service to another, in the worst state that any process has it in. With `url` it
    stands before one endpoint, as the gateway sees it.
    """

    service: str
    target: str
    url: str | None
    state: Literal["closed", "half-open", "open"]
    cause: str | None = Field(description="why it opened the last time")
    until: datetime | None = Field(description="nobody is asked until then")


class SystemCache(CacheStatus):
    """Reads of the shared cache by one service."""

    service: str


class SystemQueue(BaseModel):
    """A queue of background jobs."""

    name: str
    paused: bool
    waiting: int
    active: int
    delayed: int
    failed: int
    completed: int
    schedule: str | None
    next_at: datetime | None


class SystemProjection(BaseModel):
    """A read model, and its rebuild where one runs or ended within the last day."""

    name: str
    service: str
    rebuild: RebuildProgress | None


class SystemRouting(BaseModel):
    """The operator's routing snapshot that the gateway follows."""

    revision: str | None
    sequence: int | None
    sources: list[str] = Field(examples=["url: ok"])


class MissingPart(BaseModel):
    """What did not answer: a service, at a URL where there are several, `job-queues` or `rebuilds`."""

    part: str
    url: str | None
    reason: str


class SystemStatus(BaseModel):
    """The shop's processes as they answered within the last second; `partial` names what is missing."""

    as_of: datetime
    window_seconds: float | None = Field(description="what the rates are of; null until they were measured twice")
    services: list[SystemService]
    channels: list[SystemChannel]
    breakers: list[SystemBreaker]
    caches: list[SystemCache]
    job_queues: list[SystemQueue]
    projections: list[SystemProjection]
    routing: SystemRouting | None
    partial: list[MissingPart]
