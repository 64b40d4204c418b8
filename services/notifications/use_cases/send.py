"""Sends due notifications through their providers, outside of any transaction.

A provider's call can't be part of a commit. A process that dies between the call and its record repeats the call with
the same key: the provider is called at least once, and a reader sees the same Message-ID.
"""

import asyncio
from collections import Counter as Tally
from collections.abc import Coroutine, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import orjson

from caravan import failpoint, fault_flags
from caravan.jobs import Job, JobRequest, JobsUnavailable
from caravan.telemetry import log
from services.notifications.messages import ChannelName
from services.notifications.metrics import PROVIDER_CALLS, SEND_COUNTER, SEND_DELAY
from services.notifications.model import (
    KINDS,
    UNSUBSCRIBABLE,
    Priority,
    build_provider_key,
    compute_retry_delay,
)
from services.notifications.providers.files import SLICE_SIZE
from services.notifications.providers.protocol import NOT_TRIED, SendResult
from services.notifications.rendering import InlinePicture, RenderedMessage, render_templates
from services.notifications.sales_chart import draw_sales_chart
from services.notifications.signatures import LinkPurpose, build_link_token
from services.notifications.store import addresses, notifications, sending_rate
from services.notifications.use_cases import NotificationsContext, NotificationsResources
from services.notifications.use_cases.accept import SEND_JOBS
from services.notifications.use_cases.promotions import prepare_campaigns

T = TypeVar("T")

BATCH_SIZES: dict[Priority, int] = {"critical": 50, "standard": 200, "bulk": 200}
LEASE = timedelta(seconds=60)
"""A claimed row is due again after this long; no provider takes a batch longer than half of it."""
PROVIDER_SECONDS = 60.0
PICTURE_SECONDS = 20.0
RUN_SECONDS = 60.0
"""A job with more to send than this ends; the next one goes on."""
MIN_PAUSE, MAX_PAUSE = 0.1, 1.0
"""Between two looks whether the rate permits another message: many small batches would cost more than they gain."""


async def send_due(context: NotificationsContext, priority: Priority, job: Job) -> dict[str, int]:
    """The job: send what is due, batch after batch. A batch that was cut short is due again."""
    loop, sent_count, has_more = asyncio.get_running_loop(), 0, True
    end = loop.time() + RUN_SECONDS
    while has_more and not job.is_stopping() and loop.time() < end:
        batch_count, has_more = await _send_permitted(context, priority)
        sent_count += batch_count
        await job.report_progress(sent_count)
    if has_more:
        context.jobs.enqueue_soon(SEND_JOBS[priority])
    return {"handed_over": sent_count}


async def _send_permitted(context: NotificationsContext, priority: Priority) -> tuple[int, bool]:
    """Send a batch, of campaigns as many as their rate permits: how many, and whether more may be due."""
    permits = BATCH_SIZES[priority]
    per_second = context.settings.campaign_mails_per_second
    if priority == "bulk":
        permits = await sending_rate.take_permits(context.database, priority, per_second, permits)
        if not permits:
            await asyncio.sleep(min(max(1 / per_second, MIN_PAUSE), MAX_PAUSE))
            return 0, True
    batch_count = await _run_to_completion(_send_batch(context, priority, permits))
    if priority == "bulk" and batch_count < permits:
        await sending_rate.return_permits(context.database, priority, per_second, permits - batch_count)
    return batch_count, batch_count == permits


async def enqueue_due(context: NotificationsContext, priority: Priority) -> bool:
    """What is due, and no job knows of: make the job again. Without Redis send a batch; whether there may be more."""
    if not await notifications.has_due_notifications(
        context.database, priority, context.resources.available_channels(), context.clock()
    ):
        return False
    try:
        await context.jobs.enqueue(SEND_JOBS[priority], JobRequest(id="sweep", keep="never"))
    except JobsUnavailable:
        return (await _send_permitted(context, priority))[1]
    return False


async def _run_to_completion(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to the end even when the process is stopping: what a provider has taken must be recorded."""
    task = asyncio.ensure_future(coroutine)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _send_batch(context: NotificationsContext, priority: Priority, limit: int) -> int:
    channels = context.resources.available_channels()
    if not channels:
        return 0
    rows = await notifications.claim_due_notifications(
        context.database, priority, channels, now=context.clock(), lease=LEASE, limit=limit
    )
    if not rows:
        return 0
    prepared = await prepare_campaigns(context, rows)
    left_out = {result.id for result in prepared.results}
    by_channel: dict[ChannelName, list[asyncpg.Record]] = {}
    for row in rows:
        if row["id"] not in left_out:
            by_channel.setdefault(row["channel"], []).append(row)
    failpoint.hit("notification.before_send")
    results = await asyncio.gather(
        *(
            _send_channel(context, priority, channel, of_channel, prepared.values)
            for channel, of_channel in by_channel.items()
        )
    )
    failpoint.hit("notification.after_send_before_mark")
    await notifications.save_results(
        context.database, [*prepared.results, *(result for of_channel in results for result in of_channel)]
    )
    return len(rows)


async def _send_channel(
    context: NotificationsContext,
    priority: Priority,
    channel: ChannelName,
    rows: list[asyncpg.Record],
    contents: Mapping[UUID, Mapping[str, Any]],
) -> list[notifications.AttemptResult]:
    """Render a channel's rows and send them through its provider."""
    results: list[SendResult] = [NOT_TRIED] * len(rows)
    messages: dict[int, RenderedMessage] = {}
    for index, row in enumerate(rows):
        try:
            messages[index] = await _render_row(context.resources, row, contents.get(row["id"], {}))
        except Exception as error:  # a template or value that a newer version may get right
            log.error("not rendered", kind=row["kind"], about=row["about"], exc_info=error)
            results[index] = SendResult("again", f"not rendered: {type(error).__name__}: {error}")
        if index % SLICE_SIZE == SLICE_SIZE - 1:
            await asyncio.sleep(0)
    for index, result in zip(
        messages, await _send_to_provider(context.resources, channel, list(messages.values())), strict=True
    ):
        results[index] = result
    now = context.clock()
    _count_results(priority, channel, rows, results, now)
    await addresses.note_undeliverable(
        context.database,
        [
            addresses.UndeliverableAddress(row["recipient"], "bounce", result.reason or "")
            for row, result in zip(rows, results, strict=True)
            if result.is_bad_address
        ],
        now,
    )
    return [_to_attempt_result(row, messages.get(index), results[index], now) for index, row in enumerate(rows)]


def _count_results(
    priority: Priority, channel: ChannelName, rows: list[asyncpg.Record], results: list[SendResult], now: datetime
) -> None:
    for (kind, status), number in Tally(
        (row["kind"], result.status) for row, result in zip(rows, results, strict=True)
    ).items():
        SEND_COUNTER.labels(kind, channel, status).inc(number)
    histogram = SEND_DELAY.labels(priority)
    for row, result in zip(rows, results, strict=True):
        if result.status == "sent":
            histogram.observe(max(0.0, (now - row["created_at"]).total_seconds()))


async def _render_row(
    resources: NotificationsResources, row: asyncpg.Record, content: Mapping[str, Any]
) -> RenderedMessage:
    kind = KINDS[row["kind"]]
    values = {
        **dict.fromkeys(kind.optional_values),
        **orjson.loads(row["values"]),
        **content,
        "about": row["about"],
        "base": resources.base_url,
    }
    headers: tuple[tuple[str, str], ...] = ()
    values["unsubscribe"] = values["preferences"] = None
    if row["user_id"] and kind.category != "security":
        values["preferences"] = _build_link(resources, row["user_id"], "preferences")
    if row["user_id"] and kind.category in UNSUBSCRIBABLE:
        values["unsubscribe"] = link = _build_link(resources, row["user_id"], kind.category)
        headers = (("List-Unsubscribe", f"<{link}>"), ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
    subject, text, html = render_templates(kind.name, values)
    return RenderedMessage(
        build_provider_key(row["about"], kind.name, row["resends"]),
        kind.name,
        row["about"],
        row["recipient"],
        subject,
        text,
        html,
        row["created_at"],
        headers,
        await _draw_pictures(values) if kind.name == "daily_report" else (),
    )


async def _draw_pictures(values: Mapping[str, Any]) -> tuple[InlinePicture, ...]:
    """Off the event loop: each takes about 0.1 s."""
    async with asyncio.timeout(PICTURE_SECONDS):
        return tuple(
            [
                InlinePicture(currency, await asyncio.to_thread(draw_sales_chart, days, currency))
                for currency, days in values["history"].items()
            ]
        )


def _build_link(resources: NotificationsResources, user_id: UUID, purpose: LinkPurpose) -> str:
    token = build_link_token(resources.unsubscribe_secret, user_id, purpose)
    page = "preferences" if purpose == "preferences" else "unsubscribe"
    return f"{resources.base_url}/v1/notifications/{page}/{token}"


async def _send_to_provider(
    resources: NotificationsResources, channel: ChannelName, messages: list[RenderedMessage]
) -> list[SendResult]:
    if not messages:
        return []
    backoff = resources.get_backoff(channel)
    try:
        with PROVIDER_CALLS[channel].observe("send") as call:
            async with asyncio.timeout(PROVIDER_SECONDS):
                if fault_flags.active:
                    await fault_flags.disturb_provider(channel)
                results = await resources.providers[channel].send(messages)
            if any(result.status == "down" for result in results):
                call.result = "failed"
            elif all(result.status == "refused" for result in results):
                call.result = "refused"
    except (
        Exception
    ) as error:  # a provider's own fault must not stop the others; what it did with the batch is not known
        log.error("provider failed", channel=channel, messages=len(messages), exc_info=error)
        results = [SendResult("again", f"{type(error).__name__}: {error}")] * len(messages)
    unavailable = next((result for result in results if result.status == "down"), None)
    if unavailable:
        backoff.record_failure()
        log.warning("provider unavailable", channel=channel, reason=unavailable.reason, failures=backoff.failures)
    else:
        backoff.record_success()
    return results


def _to_attempt_result(
    row: asyncpg.Record, message: RenderedMessage | None, send_result: SendResult, now: datetime
) -> notifications.AttemptResult:
    subject = message.subject if message else None
    attempts: int = row["attempts"]
    result = partial(notifications.AttemptResult, row["id"], attempts, subject=subject, reason=send_result.reason)
    match send_result.status:
        case "sent":
            return result(attempts, "sent", now, sent_at=now)
        case "later" | "down":
            return result(attempts - 1, "pending", now)
    delay = compute_retry_delay(attempts) if send_result.status == "again" else None
    log.warning(
        "not sent",
        id=str(row["id"]),
        kind=row["kind"],
        about=row["about"],
        attempts=attempts,
        reason=send_result.reason,
        given_up=delay is None,
    )
    return result(attempts, "pending", now + delay) if delay else result(attempts, "failed", now)
