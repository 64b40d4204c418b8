"""The part of a timeline that one service has, and the operation that asks for it."""

from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from caravan.client import Operation
from caravan.messages import ChannelType


class TimelineRequest(BaseModel):
    """`key`: that of the messages, such as an order's id."""

    key: UUID


class HandledMessage(BaseModel):
    """A message that a consumer has handled, once: `attempt` is the one that succeeded, `refused` how often it came
    again afterwards. `handled_at` is when it was handled first.
    """

    id: UUID
    type: str
    channel: str
    channel_type: ChannelType
    consumer: str
    cause: UUID | None
    attempt: int
    refused: int
    handled_at: datetime


class WaitingMessage(BaseModel):
    """A message in the outbox: `refused_at` and `reason` of one that the bus will never take."""

    id: UUID
    type: str
    channel: str
    channel_type: ChannelType
    cause: UUID | None
    created_at: datetime
    refused_at: datetime | None
    reason: str | None


class DeadMessage(BaseModel):
    """A message that a consumer gave up and that was neither redriven nor discarded. `failure` is its id in
    `/v1/failures`; `id` and `type` are null when it can't be read.
    """

    id: UUID | None
    failure: str
    type: str | None
    channel: str
    channel_type: ChannelType
    consumer: str
    cause: UUID | None
    attempts: int
    reason: str
    failed_at: datetime
    redrivable: bool


class TimelineEntry(BaseModel):
    """One thing that happened. Entries of one `subject` are listed in the order in which they happened to it.

    `cause` is the id of a message or of another entry. `announces` are the types of the messages that went out with it.
    `state` is what the subject is like from then on. `internal` is for the shop's own people, as is an entry that
    `is_internal`.
    """

    id: str
    source: str
    kind: str
    subject: str
    time: datetime
    cause: str | None = None
    announces: list[str] = []
    actor: str | None = None
    trace_id: str | None = None
    state: dict[str, Any] = {}
    details: dict[str, Any] = {}
    internal: dict[str, Any] = {}
    is_internal: bool = False


class TimelineGap(BaseModel):
    """A source of which something is missing, and why: all of it, or what is from `before` a time."""

    source: str
    reason: str
    before: datetime | None = None


class TimelinePart(BaseModel):
    """`handled`, `waiting` and `dead` are filled in by the kernel, the rest by the service."""

    entries: list[TimelineEntry] = []
    gaps: list[TimelineGap] = []
    handled: list[HandledMessage] = []
    waiting: list[WaitingMessage] = []
    dead: list[DeadMessage] = []


@cache
def build_timeline_operation(service: str) -> Operation[TimelineRequest, TimelinePart]:
    return Operation(service, "timeline", TimelineRequest, TimelinePart, seconds=1.0)
