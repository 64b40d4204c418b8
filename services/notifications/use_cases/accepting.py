"""What is wanted becomes a row, once."""

from collections.abc import Sequence
from functools import partial
from typing import Any, get_args
from uuid import UUID

import orjson
from pydantic import BaseModel

from caravan.clock import new_id
from caravan.database import UnitOfWork
from services.notifications import store
from services.notifications.model import DEFAULT, Preference, Priority, Wanted, check, route
from services.notifications.use_cases import NotificationsContext

SEND_JOBS: dict[Priority, str] = {priority: f"notifications.{priority}-send" for priority in get_args(Priority)}


async def accept(context: NotificationsContext, work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Write down what is to be sent. Raises Reject for what can't be."""
    if not wanted:
        return
    for message in wanted:
        check(message)
    await _add_owners(work, wanted)
    preferences = await store.preferences(work, [message.user_id for message in wanted if message.user_id])
    alerts = [message.user_id for message in wanted if message.kind.category == "alerts" and message.user_id]
    unverified = await store.campaigns.unverified(work, alerts) if alerts else set()
    for message in wanted:
        message.suppressed = message.kind.category == "alerts" and message.user_id in unverified
    await store.add(
        work,
        [as_row(message, preferences.get(message.user_id, DEFAULT) if message.user_id else DEFAULT) for message in wanted],
        context.clock(),
    )
    for priority in {message.priority for message in wanted}:
        work.after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS[priority]))


async def _add_owners(work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Not every event names the user: their order's other notifications do."""
    ownerless = [message for message in wanted if message.user_id is None and message.order_id]
    if ownerless:
        owners = await store.owners(work, [message.order_id for message in ownerless if message.order_id])
        for message in ownerless:
            message.user_id = owners.get(message.order_id) if message.order_id else None


def as_row(wanted: Wanted, preference: Preference, run_id: UUID | None = None) -> store.Row:
    """The notification of a message, on the way that its recipient prefers; `run_id`: the run of a campaign that it is of."""
    way = route(wanted, preference)
    values = orjson.dumps(wanted.values, default=_as_json).decode() if way.state == "pending" else None
    return store.Row(
        new_id(),
        wanted.about,
        wanted.kind.name,
        wanted.user_id,
        wanted.order_id,
        way.channel,
        way.recipient,
        wanted.priority,
        way.state,
        values,
        run_id,
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"a value of type {type(value).__name__} can't be kept")
