"""What is wanted becomes a row, once."""

from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, get_args
from uuid import UUID

import orjson
from pydantic import BaseModel

from caravan.clock import new_id
from caravan.database import UnitOfWork
from services.notifications import store
from services.notifications.model import DEFAULT, KINDS, Preference, Priority, Wanted, check, route
from services.notifications.use_cases import NotificationsContext

FREE_KINDS = [kind.name for kind in KINDS.values() if kind.free]
SEND_JOBS: dict[Priority, str] = {priority: f"notifications.{priority}-send" for priority in get_args(Priority)}


async def accept(context: NotificationsContext, work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Write down what is to be sent. Raises Reject for what can't be."""
    if not wanted:
        return
    for message in wanted:
        check(message)
    await _add_owners(work, wanted)
    preferences = await store.preferences(work, [message.user_id for message in wanted if message.user_id])
    await _spare_strangers(context, work, wanted)
    await store.add(
        work,
        [as_row(message, preferences.get(message.user_id, DEFAULT) if message.user_id else DEFAULT) for message in wanted],
        context.clock(),
    )
    for priority in {message.priority for message in wanted}:
        work.after_commit(partial(context.jobs.enqueue_soon, SEND_JOBS[priority]))


async def _spare_strangers(context: NotificationsContext, work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Whoever registers somebody else's address can't have it flooded."""
    doubtful = [message for message in wanted if message.user_id and (message.kind.free or message.kind.category == "alerts")]
    if not doubtful:
        return
    since = context.clock() - timedelta(days=1)
    mails = await store.count_for_unverified(work, {message.user_id for message in doubtful if message.user_id}, FREE_KINDS, since)
    for message in doubtful:
        if message.user_id in mails:
            mails[message.user_id] += message.kind.free
            message.suppressed = not message.kind.free or mails[message.user_id] > context.settings.unverified_mails_per_day


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
