"""What is due is handed to its provider, outside of any transaction.

A provider's call can't be part of a commit. A process that dies between the call and its record makes the call again, with the same key: at least once towards
the provider, the same Message-ID towards the reader.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Coroutine
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson
from prometheus_client import Counter, Histogram

from caravan import crash
from caravan.jobs import Job, JobsAway, NewJob
from caravan.telemetry import log
from services.notifications import store
from services.notifications.letters import Letter, render
from services.notifications.model import KINDS, UNSUBSCRIBED, Priority, provider_key, retry_after, unsubscribe_token
from services.notifications.providers import LATER, SLICE, Parts, Verdict
from services.notifications.use_cases import NotificationsContext
from services.notifications.use_cases.accepting import SEND_JOBS

T = TypeVar("T")

BATCH: dict[Priority, int] = {"critical": 50, "standard": 200, "bulk": 200}
LEASE = timedelta(seconds=60)
"""A claimed row is due again after this long; no provider takes a batch longer than half of it."""
PROVIDER_SECONDS = 60.0
RUN_SECONDS = 60.0
"""A job with more to send than this ends; the sweeper goes on with the next one."""

HANDED_OVER = Counter(
    "caravan_notifications_total", "Notifications by what came of handing them to a provider", ["kind", "channel", "result"]
)
WAITED = Histogram(
    "caravan_notification_seconds",
    "From the wish to the provider's yes",
    ["priority"],
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 3600),
)


async def send_due(context: NotificationsContext, priority: Priority, job: Job) -> dict[str, int]:
    """The job: hand over what is due, batch after batch. A batch that was cut short is due again."""
    loop, handed_over = asyncio.get_running_loop(), 0
    end = loop.time() + RUN_SECONDS
    while not job.stopping() and loop.time() < end:
        claimed = await _finishing(_send_batch(context, priority))
        handed_over += claimed
        await job.report(handed_over)
        if claimed < BATCH[priority]:
            break
    return {"handed_over": handed_over}


async def sweep(context: NotificationsContext, priority: Priority) -> bool:
    """What is due, and no job knows of: make the job again. Without Redis send a batch; whether there may be more."""
    if not await store.any_due(context.database, priority, context.parts.awake(), context.clock()):
        return False
    try:
        await context.jobs.enqueue(SEND_JOBS[priority], NewJob(id="sweep", kept="never"))
    except JobsAway:
        return await _finishing(_send_batch(context, priority)) == BATCH[priority]
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
    contents = await _contents(context, rows)
    for place, row in enumerate(rows):
        try:
            letters[place] = _letter(context.parts, row, contents.get(row["id"], {}))
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


async def _contents(context: NotificationsContext, rows: list[asyncpg.Record]) -> dict[UUID, dict[str, str]]:
    """What the campaigns among these rows say, by row: a text for thousands is kept once."""
    of_campaigns = {row["id"]: orjson.loads(row["values"])["campaign_id"] for row in rows if row["kind"] == "campaign"}
    if not of_campaigns:
        return {}
    found = await store.campaigns.contents(context.database, [UUID(campaign_id) for campaign_id in set(of_campaigns.values())])
    return {row_id: found[campaign_id] for row_id, campaign_id in of_campaigns.items()}


def _letter(parts: Parts, row: asyncpg.Record, content: dict[str, str]) -> Letter:
    kind = KINDS[row["kind"]]
    values = {**dict.fromkeys(kind.may), **orjson.loads(row["values"]), **content, "about": row["about"], "base": parts.base}
    headers: tuple[tuple[str, str], ...] = ()
    values["unsubscribe"] = None
    if kind.category in UNSUBSCRIBED and row["user_id"]:
        link = f"{parts.base}/v1/notifications/unsubscribe/{unsubscribe_token(parts.unsubscribe_secret, row['user_id'], kind.category)}"
        headers = (("List-Unsubscribe", f"<{link}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
        values["unsubscribe"] = link
    subject, text, html = render(kind.name, values)
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
