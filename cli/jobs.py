"""`caravan jobs`: list and repair background jobs. Lists come from the jobs' Redis directly and need no running
service; actions go through the gateway's API, so that they are audited.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, TypeVar

import orjson
import uvloop

from caravan import embedded, telemetry
from caravan.clock import format_rfc3339
from caravan.errors import Problem
from caravan.jobs import UNAVAILABLE_ERRORS, JobStore, admin
from caravan.jobs.admin import CleanableState, JobState, JobStatus
from cli.api_client import ApiClient, encode_segment, run_with_client
from cli.configuration import load_kernel_settings
from cli.terminal import exit_with_error, print_fields, print_json, print_line, print_table

T = TypeVar("T")
PAGE_SIZE = 100


def run_with_store(action: Callable[[JobStore], Awaitable[T]]) -> T:
    telemetry.configure_logs("warning", "text")

    async def run_action() -> T:
        store = JobStore(_find_redis_url())
        try:
            return await action(store)
        finally:
            await store.close()

    try:
        return uvloop.run(run_action())
    except Problem as problem:
        exit_with_error(problem.detail)
    except UNAVAILABLE_ERRORS as error:
        exit_with_error(
            f"the Redis of the jobs can't be reached: {error}. Is CARAVAN_JOBS_REDIS_URL (or CARAVAN_REDIS_URL) "
            "right, and does it run?"
        )


def _find_redis_url() -> str:
    kernel_settings = load_kernel_settings()
    configured_url = kernel_settings.jobs_redis_url or kernel_settings.redis_url
    if configured_url:
        return configured_url.get_secret_value()
    servers = embedded.find_running(kernel_settings.data)
    if servers is None:
        exit_with_error(
            f"nothing runs in {kernel_settings.data}; start it with `caravan up`, or name a Redis in "
            "CARAVAN_JOBS_REDIS_URL"
        )
    return servers.redis_url


def _build_document(entry: JobStatus) -> dict[str, Any]:
    return {**asdict(entry), "trace_id": entry.trace_id, "cause": entry.cause}


def list_queues(output: Literal["table", "json"]) -> None:
    entries = run_with_store(admin.list_queues)
    if output == "json":
        print_json([asdict(queue) for queue in entries])
        return
    rows = [
        (
            f"{queue.name}{' (paused)' if queue.paused else ''}",
            *(queue.counts[state] for state in admin.STATES),
            queue.schedule or "",
            _format_time(queue.next_at),
        )
        for queue in entries
    ]
    print_table("", ("queue", *(f"#{state}" for state in admin.STATES), "schedule", "next"), rows)


def list_jobs(state: JobState | None, queue: str | None, limit: int, output: Literal["table", "json"]) -> None:
    async def collect_entries(store: JobStore) -> list[JobStatus]:
        entries: list[JobStatus] = []
        after = None
        while len(entries) < limit:
            page, after = await admin.list_jobs(
                store, state=state, queue=queue, after=after, limit=min(PAGE_SIZE, limit - len(entries))
            )
            entries += page
            if after is None:
                break
        return entries

    entries = run_with_store(collect_entries)
    if output == "json":
        print_json([_build_document(entry) for entry in entries])
        return
    rows = [
        (
            entry.id,
            entry.state,
            f"{entry.attempts} of {entry.attempts_allowed}",
            _format_time(entry.created_at),
            _format_time(entry.due_at),
            entry.reason or "",
        )
        for entry in entries
    ]
    print_table("", ("id", "state", "attempts", "made", "next try", "reason"), rows)


def show_job(job_id: str, output: Literal["table", "json"]) -> None:
    entry = run_with_store(lambda store: admin.get_job(store, job_id))
    if output == "json":
        print_json(_build_document(entry))
        return
    print_fields(
        (
            name,
            _format_time(value)
            if isinstance(value, datetime)
            else value
            if isinstance(value, str)
            else orjson.dumps(value).decode(),
        )
        for name, value in _build_document(entry).items()
    )


def retry_jobs(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_send_for_each(job_ids, 'POST', '/retry', url)} retried")


def promote_jobs(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_send_for_each(job_ids, 'POST', '/promote', url)} promoted")


def remove_jobs(job_ids: list[str], url: str | None) -> None:
    print_line(f"{_send_for_each(job_ids, 'DELETE', '', url)} removed")


def _send_for_each(job_ids: list[str], method: str, path_suffix: str, url: str | None) -> int:
    """Through the shop's API, as all actions: the audit log has who did them."""

    async def send_requests(client: ApiClient) -> int:
        for job_id in job_ids:
            await client.send_request(method, f"/v1/jobs/{encode_segment(job_id)}{path_suffix}")
        return len(job_ids)

    return run_with_client(url, send_requests)


def clean_queue(queue: str, state: CleanableState, older_than: int, url: str | None) -> None:
    body = {"queue": queue, "state": state, "older_than_seconds": older_than}
    response = run_with_client(url, lambda shop: shop.send_request("POST", "/v1/jobs/clean", body=body))
    print_line(f"{response.json()['removed']} removed")


def pause_queue(queue: str, url: str | None) -> None:
    run_with_client(url, lambda shop: shop.send_request("POST", f"/v1/jobs/queues/{encode_segment(queue)}/pause"))
    print_line(f"{queue}: paused; `caravan jobs resume {queue}` goes on")


def resume_queue(queue: str, url: str | None) -> None:
    run_with_client(url, lambda shop: shop.send_request("POST", f"/v1/jobs/queues/{encode_segment(queue)}/resume"))
    print_line(f"{queue}: goes on")


def _format_time(value: datetime | None) -> str:
    return format_rfc3339(value)[:19] + "Z" if value else ""
