"""Requests and responses about dead letters, and the operations that carry them between processes."""

from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from caravan.client import Operation
from caravan.schemas import StrictModel
from caravan.text import BrokenRule, TextLine
from caravan.times import Time

Origin = Literal["subscription", "outbox", "job", "effect"]
Action = Literal["redrive", "discard", "blocked", "not_redrivable"]
_IDS_MAX = 500


class DeadLetterView(BaseModel):
    """One message (or job) that was given up. `payload` is without secrets."""

    id: str
    service: str
    origin: Origin
    subscription: str
    channel: str
    key: str
    cause: str = Field(description="the same for all that failed for the same reason")
    reason: str
    attempts: int
    failed_at: datetime
    emitted_at: datetime | None
    message_id: str | None
    type: str | None
    actor: str | None
    trace_id: str | None
    size: int = Field(description="bytes of the whole message")
    redrivable: bool
    payload: Any = None


class DeadLetterCause(BaseModel):
    """All failures of one cause. `reason` is one of theirs."""

    cause: str
    reason: str
    count: int
    first_at: datetime
    last_at: datetime
    services: list[str]
    origins: list[Origin]
    subscriptions: list[str]


class PageCursor(BaseModel):
    """Where a page ended: the time of death and the id of its last item."""

    failed_at: datetime
    id: str


class ListRequest(BaseModel):
    cause: str | None = None
    channel: str | None = None
    after: PageCursor | None = None
    limit: int = 20


class DeadLetterPage(BaseModel):
    """`truncated`: there are more than one reading takes; the counts are of those that were read, the oldest."""

    causes: list[DeadLetterCause]
    items: list[DeadLetterView]
    truncated: bool = False


class ShowRequest(BaseModel):
    id: str


CauseName = Annotated[
    str, Field(min_length=1, max_length=64, description="all of this cause", examples=["3f9a1c0b77de"])
]
Ids = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=500)]],
    Field(min_length=1, max_length=_IDS_MAX, description="just these"),
]
SubscriptionName = Annotated[str, Field(min_length=1, max_length=200, description="all of this subscription")]


class Selection(StrictModel):
    """Exactly one of `cause`, `ids` and `subscription`."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [name], "properties": {name: {"type": kind}}}
                for name, kind in (("cause", "string"), ("ids", "array"), ("subscription", "string"))
            ]
        }
    )

    cause: CauseName | None = None
    ids: Ids | None = None
    subscription: SubscriptionName | None = None
    dry_run: bool = False
    failed_before: Time | None = Field(
        None, description="only what was given up before; the `as_of` of the first call, where it takes several"
    )

    @model_validator(mode="after")
    def _check_one_selector(self) -> Self:
        if sum(given is not None for given in (self.cause, self.ids, self.subscription)) != 1:
            raise BrokenRule("cause", "give exactly one of cause, ids and subscription")
        return self


class DiscardRequest(Selection):
    reason: Annotated[str, TextLine(500, 3)] = Field(description="stands in the audit log")


class PlannedAction(BaseModel):
    """What is (or would be) done with one failure, and why not where it is not."""

    id: str
    service: str
    subscription: str
    key: str
    message_id: str | None
    action: Action
    reason: str = ""


class ActionResult(BaseModel):
    """`more`: so many were selected that some are left for the next call. `items` are the first of them."""

    dry_run: bool
    as_of: datetime
    selected: int
    done: int
    blocked: int
    not_redrivable: int
    more: bool
    items: list[PlannedAction]


@cache
def build_list_operation(service: str) -> Operation[ListRequest, DeadLetterPage]:
    return Operation(service, "failures", ListRequest, DeadLetterPage, seconds=20)


@cache
def build_show_operation(service: str) -> Operation[ShowRequest, DeadLetterView]:
    """Raises NotFound."""
    return Operation(service, "failure", ShowRequest, DeadLetterView, seconds=20)


@cache
def build_redrive_operation(service: str) -> Operation[Selection, ActionResult]:
    return Operation(service, "redrive-failures", Selection, ActionResult, seconds=60, is_repeatable=False)


@cache
def build_discard_operation(service: str) -> Operation[DiscardRequest, ActionResult]:
    return Operation(service, "discard-failures", DiscardRequest, ActionResult, seconds=60, is_repeatable=False)
