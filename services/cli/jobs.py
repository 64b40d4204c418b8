"""`caravan jobs`: what is in the queues of background jobs, and putting it right. Looking needs the Redis of the jobs and no running service; what is done goes through the shop's API."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, TypeVar

import orjson
import uvloop

from caravan import embedded, telemetry
from caravan.clock import rfc3339
from caravan.errors import Problem
from caravan.jobs import AWAY, JobStore, desk
from caravan.jobs.desk import Cleanable, Entry, State
from services.cli.configuration import kernel_settings
from services.cli.shop import Shop, ask_shop, segment
from services.cli.terminal import fail, print_fields, print_json, print_line, print_table

T = TypeVar("T")
PAGE = 100


def _run(action: Callable[[JobStore], Awaitable[T]]) -> T:
    telemetry.configure_logs("warning", "text")

    async def run() -> T:
        store = JobStore(_url())
        try:
            return await action(store)
        finally:
            await store.close()

    try:
        return uvloop.run(run())
    except Problem as problem:
        fail(problem.detail)
    except AWAY as error:
        fail(f"the Redis of the jobs can't be reached: {error}. Is CARAVAN_JOBS_REDIS_URL (or CARAVAN_REDIS_URL) right, and does it run?")


def _url() -> str:
    kernel = kernel_settings()
    named = kernel.jobs_redis_url or kernel.redis_url
    if named:
        return named.get_secret_value()
    found = embedded.running(kernel.data)
    if found is None:
        fail(f"nothing runs in {kernel.data}; start it with `caravan up`, or name a Redis in CARAVAN_JOBS_REDIS_URL")
    return found.redis_url


def _document(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "trace_id": entry.trace_id, "cause": entry.cause}


def queues(output: Literal["table", "json"]) -> None:
    found = _run(desk.queues)
    if output == "json":
        print_json([asdict(queue) for queue in found])
        return
    rows = [
        (
            f"{queue.name}{' (paused)' if queue.paused else ''}",
            *(queue.counts[state] for state in desk.STATES),
            queue.schedule or "",
            _when(queue.next_at),
        )
        for queue in found
    ]
    print_table("", ("queue", *(f"#{state}" for state in desk.STATES), "schedule", "next"), rows)


def list_jobs(state: State | None, queue: str | None, limit: int, output: Literal["table", "json"]) -> None:
    async def collect(store: JobStore) -> list[Entry]:
        found: list[Entry] = []
        after = None
        while len(found) < limit:
            page, after = await desk.page(store, state=state, queue=queue, after=after, limit=min(PAGE, limit - len(found)))
            found += page
            if after is None:
                break
        return found

    found = _run(collect)
    if output == "json":
        print_json([_document(entry) for entry in found])
        return
    rows = [
        (
            entry.id,
            entry.state,
            f"{entry.attempts} of {entry.attempts_allowed}",
            _when(entry.created_at),
            _when(entry.due_at),
            entry.reason or "",
        )
        for entry in found
    ]
    print_table("", ("id", "state", "attempts", "made", "next try", "reason"), rows)


def show(job_id: str, output: Literal["table", "json"]) -> None:
    entry = _run(lambda store: desk.show(store, job_id))
    if output == "json":
        print_json(_document(entry))
        return
    print_fields(
        (name, _when(value) if isinstance(value, datetime) else value if isinstance(value, str) else orjson.dumps(value).decode())
        for name, value in _document(entry).items()
    )


def retry(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_each(job_ids, 'POST', '/retry', url)} retried")


def promote(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_each(job_ids, 'POST', '/promote', url)} promoted")


def remove(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_each(job_ids, 'DELETE', '', url)} removed")


def _each(job_ids: list[str], method: str, deed: str, url: str | None) -> int:
    """Through the shop's API, as all deeds: the audit log has who did them."""

    async def carry_out(shop: Shop) -> int:
        for job_id in job_ids:
            await shop.call(method, f"/v1/jobs/{segment(job_id)}{deed}")
        return len(job_ids)

    return ask_shop(url, carry_out)


def clean(queue: str, state: Cleanable, older_than: int, url: str | None) -> None:
    body = {"queue": queue, "state": state, "older_than_seconds": older_than}
    print_line(f"{ask_shop(url, lambda shop: shop.call('POST', '/v1/jobs/clean', body=body)).json()['removed']} removed")


def pause(queue: str, url: str | None) -> None:
    ask_shop(url, lambda shop: shop.call("POST", f"/v1/jobs/queues/{segment(queue)}/pause"))
    print_line(f"{queue}: paused; `caravan jobs resume {queue}` goes on")


def resume(queue: str, url: str | None) -> None:
    ask_shop(url, lambda shop: shop.call("POST", f"/v1/jobs/queues/{segment(queue)}/resume"))
    print_line(f"{queue}: goes on")


def _when(value: datetime | None) -> str:
    return rfc3339(value)[:19] + "Z" if value else ""
