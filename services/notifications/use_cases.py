"""Notifications: what is wanted becomes a row, once; what is due is handed to its provider, outside of any transaction.

A provider's call can't be part of a commit. A process that dies between the call and its record makes the call again, with the same key: at least once towards
the provider, the same Message-ID towards the reader.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson
from prometheus_client import Counter, Histogram
from pydantic import BaseModel

from caravan import crash
from caravan.clock import new_id, rfc3339
from caravan.database import UnitOfWork
from caravan.errors import Invalid, NotFound
from caravan.service import Context
from caravan.telemetry import log
from services.notifications import store
from services.notifications.client import LatestNotifications, LatestRequest, NotificationSummary
from services.notifications.letters import Letter, render
from services.notifications.model import (
    DEFAULT,
    KINDS,
    Preference,
    Priority,
    Wanted,
    check,
    provider_key,
    retry_after,
    route,
    unsubscribe_token,
    unsubscribe_user,
)
from services.notifications.providers import LATER, SLICE, Parts, Verdict
from services.notifications.settings import Settings

NotificationsContext = Context[Settings, Parts]
T = TypeVar("T")

BATCH: dict[Priority, int] = {"critical": 50, "standard": 200}
LEASE = timedelta(seconds=60)
"""A claimed row is due again after this long; no provider takes a batch longer than half of it."""
PROVIDER_SECONDS = 60.0
GATHER_SECONDS = 0.1
"""The standard sender lets a partial batch be followed by at most ten others per second, so that each carries more."""

HANDED_OVER = Counter(
    "caravan_notifications_total", "Notifications by what came of handing them to a provider", ["kind", "channel", "result"]
)
WAITED = Histogram(
    "caravan_notification_seconds",
    "From the wish to the provider's yes",
    ["priority"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)


async def accept(context: NotificationsContext, work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Write down what is to be sent. Raises Reject for what can't be."""
    if not wanted:
        return
    for message in wanted:
        check(message)
    await _add_owners(work, wanted)
    preferences = await store.preferences(work, [message.user_id for message in wanted if message.user_id])
    await store.add(
        work,
        [_row(message, preferences.get(message.user_id, DEFAULT) if message.user_id else DEFAULT) for message in wanted],
        context.clock(),
    )
    for priority in {message.priority for message in wanted}:
        work.after_commit(partial(context.nudge, priority))


async def _add_owners(work: UnitOfWork, wanted: Sequence[Wanted]) -> None:
    """Not every event names the user: their order's other notifications do."""
    ownerless = [message for message in wanted if message.user_id is None and message.order_id]
    if ownerless:
        owners = await store.owners(work, [message.order_id for message in ownerless if message.order_id])
        for message in ownerless:
            message.user_id = owners.get(message.order_id) if message.order_id else None


def _row(wanted: Wanted, preference: Preference) -> store.Row:
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
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump()
    raise TypeError(f"a value of type {type(value).__name__} can't be kept")


async def send_due(context: NotificationsContext, priority: Priority) -> bool:
    """Send one batch of what is due. Whether there may be more at once."""
    claimed = await _finishing(_send_batch(context, priority))
    if claimed == BATCH[priority]:
        return True
    if claimed and priority == "standard":
        await asyncio.sleep(GATHER_SECONDS)
    return False


async def _finishing(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end even when the process is stopping: what a provider has taken must be recorded."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _send_batch(context: NotificationsContext, priority: Priority) -> int:
    channels = context.parts.awake()
    if not channels:
        return 0
    rows = await store.claim(context.database, priority, channels, now=context.clock(), lease=LEASE, limit=BATCH[priority])
    if not rows:
        return 0
    by_channel: dict[str, list[asyncpg.Record]] = {}
    for row in rows:
        by_channel.setdefault(row["channel"], []).append(row)
    crash.point("notification.before_send")
    finished = await asyncio.gather(*(_send(context, priority, channel, of_channel) for channel, of_channel in by_channel.items()))
    crash.point("notification.after_send_before_mark")
    await store.finish(context.database, [one for of_channel in finished for one in of_channel])
    return len(rows)


async def _send(context: NotificationsContext, priority: Priority, channel: str, rows: list[asyncpg.Record]) -> list[store.Finished]:
    """Render a channel's rows and hand them to its provider."""
    verdicts: list[Verdict] = [LATER] * len(rows)
    letters: dict[int, Letter] = {}
    for place, row in enumerate(rows):
        try:
            letters[place] = _letter(context.parts, row)
        except Exception as error:  # a template or value that a newer version may get right
            log.error("not rendered", kind=row["kind"], about=row["about"], exc_info=error)
            verdicts[place] = Verdict("again", f"not rendered: {type(error).__name__}: {error}")
        if place % SLICE == SLICE - 1:
            await asyncio.sleep(0)
    for place, verdict in zip(letters, await _hand_over(context.parts, channel, list(letters.values())), strict=True):
        verdicts[place] = verdict
    now = context.clock()
    _count(priority, channel, rows, verdicts, now)
    return [_finished(row, letters.get(place), verdicts[place], now) for place, row in enumerate(rows)]


def _count(priority: Priority, channel: str, rows: list[asyncpg.Record], verdicts: list[Verdict], now: datetime) -> None:
    for (kind, result), number in Tally((row["kind"], verdict.result) for row, verdict in zip(rows, verdicts, strict=True)).items():
        HANDED_OVER.labels(kind, channel, result).inc(number)
    waited = WAITED.labels(priority)
    for row, verdict in zip(rows, verdicts, strict=True):
        if verdict.result == "sent":
            waited.observe(max(0.0, (now - row["created_at"]).total_seconds()))


def _letter(parts: Parts, row: asyncpg.Record) -> Letter:
    kind = KINDS[row["kind"]]
    values = {**dict.fromkeys(kind.may), **orjson.loads(row["values"]), "about": row["about"], "base": parts.base}
    subject, text, html = render(kind.name, values)
    headers: tuple[tuple[str, str], ...] = ()
    if kind.category == "alerts" and row["user_id"]:
        link = f"{parts.base}/v1/notifications/unsubscribe/{unsubscribe_token(parts.unsubscribe_secret, row['user_id'])}"
        headers = (("List-Unsubscribe", f"<{link}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    return Letter(
        provider_key(row["about"], kind.name), kind.name, row["about"], row["recipient"], subject, text, html, row["created_at"], headers
    )


async def _hand_over(parts: Parts, channel: str, letters: list[Letter]) -> list[Verdict]:
    if not letters:
        return []
    rest = parts.rest(channel)
    try:
        async with asyncio.timeout(PROVIDER_SECONDS):
            verdicts = await parts.providers[channel].send(letters)
    except Exception as error:  # a provider's own fault must not stop the others; what it did with the batch is not known
        log.error("provider failed", channel=channel, letters=len(letters), exc_info=error)
        verdicts = [Verdict("again", f"{type(error).__name__}: {error}")] * len(letters)
    down = next((verdict for verdict in verdicts if verdict.result == "down"), None)
    if down:
        rest.down()
        log.warning("provider is down", channel=channel, reason=down.reason, failures=rest.failures)
    else:
        rest.up()
    return verdicts


def _finished(row: asyncpg.Record, letter: Letter | None, verdict: Verdict, now: datetime) -> store.Finished:
    subject = letter.subject if letter else None
    attempts: int = row["attempts"]
    result = partial(store.Finished, row["id"], attempts, subject=subject, reason=verdict.reason)
    match verdict.result:
        case "sent":
            return result(attempts, "sent", now, sent_at=now)
        case "later" | "down":
            return result(attempts - 1, "pending", now)
    delay = retry_after(attempts) if verdict.result == "again" else None
    log.warning(
        "not sent",
        id=str(row["id"]),
        kind=row["kind"],
        about=row["about"],
        attempts=attempts,
        reason=verdict.reason,
        given_up=delay is None,
    )
    return result(attempts, "pending", now + delay) if delay else result(attempts, "failed", now)


async def read_preference(context: NotificationsContext, user_id: UUID) -> Preference:
    return (await store.preferences(context.database, [user_id])).get(user_id, DEFAULT)


async def change_preference(
    context: NotificationsContext, user_id: UUID, changes: dict[str, Any], check_version: Callable[[int], None]
) -> Preference:
    """Apply the named fields. `check_version` raises when the caller had read another version."""
    async with context.database.work() as work:
        before = await store.lock_preference(work, user_id)
        check_version(before.version)
        return await _save(work, user_id, before, changes)


async def unsubscribe(context: NotificationsContext, token: str) -> None:
    """End the alerts to the user whose mail carried the token."""
    user_id = unsubscribe_user(context.parts.unsubscribe_secret, token)
    if user_id is None:
        raise NotFound("this link to unsubscribe is not one of ours; change your preferences at /v1/users/me/preferences instead")
    async with context.database.work() as work:
        before = await store.lock_preference(work, user_id)
        if "alerts" not in before.opt_out:
            await _save(work, user_id, before, {"opt_out": before.opt_out | {"alerts"}})


async def _save(work: UnitOfWork, user_id: UUID, before: Preference, changes: dict[str, Any]) -> Preference:
    after = Preference(
        changes.get("channel", before.channel),
        changes.get("phone", before.phone),
        frozenset(changes.get("opt_out", before.opt_out)),
        before.version + 1,
    )
    if after.channel == "sms" and not after.phone:
        raise Invalid("the channel sms needs a phone number", errors=[{"field": "phone", "rule": "is needed for the channel sms"}])
    await store.save_preference(work, user_id, after)
    return after


async def latest(context: NotificationsContext, request: LatestRequest) -> LatestNotifications:
    """What was last sent to a user, or is about to be."""
    rows = await store.page(context.database, limit=request.limit, before=None, user_id=request.user_id)
    return LatestNotifications(
        items=[NotificationSummary.model_validate({**row, "created_at": rfc3339(row["created_at"])}) for row in rows]
    )
