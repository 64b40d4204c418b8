"""Background jobs: the queues with their counts, and the jobs of a queue or state, with what the API can do to each."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import orjson

from services.gateway.console.api_client import ApiRefused, fill_path
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/jobs"
PAGE_SIZE = 50
STATES = ("active", "waiting", "delayed", "failed", "completed")
MAX_PAYLOAD_LENGTH = 2000


async def load_jobs(request: PageRequest) -> View:
    filters = {name: request.query.get(name, "") for name in ("queue", "state")}
    cursor = request.query.get("cursor", "")
    queues, page = await asyncio.gather(
        request.api.get("/v1/jobs/queues"), _read_page(request, {**filters, "cursor": cursor, "limit": PAGE_SIZE})
    )
    given = {name: value for name, value in filters.items() if value}
    next_query = urlencode({**given, "cursor": page["next_cursor"] or ""})
    return {
        "queues": [_add_urls(queue) for queue in queues["items"]],
        "jobs": [{**job, "payload": _format_payload(job["payload"])} for job in page["items"]],
        "problem": page["problem"],
        "filters": filters,
        "states": STATES,
        "is_filtered": bool(given),
        "is_first_page": not cursor,
        "next_url": f"{PATH}?{next_query}" if page["next_cursor"] else "",
        "here": f"{PATH}?{urlencode({**given, 'cursor': cursor})}" if cursor else f"{PATH}?{urlencode(given)}",
    }


async def _read_page(request: PageRequest, query: dict[str, str | int | None]) -> dict[str, Any]:
    """`problem`: why there is none, of filters that are not valid."""
    try:
        page = await request.api.get("/v1/jobs", query)
    except ApiRefused as refused:
        if refused.status not in (400, 404, 422):
            raise
        return {"items": [], "next_cursor": None, "problem": str(refused)}
    return {**page, "problem": ""}


def _add_urls(queue: dict[str, Any]) -> dict[str, Any]:
    urls = {state: f"{PATH}?{urlencode({'queue': queue['name'], 'state': state})}" for state in STATES}
    return {**queue, "urls": urls, "url": f"{PATH}?{urlencode({'queue': queue['name']})}"}


def _format_payload(payload: Any) -> str:
    text = orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= MAX_PAYLOAD_LENGTH else f"{text[:MAX_PAYLOAD_LENGTH]}…"


async def retry_job(request: PageRequest) -> ActionResult:
    job_id = request.form.get("job", "")
    await request.api.post(fill_path("/v1/jobs/{job}/retry", job=job_id))
    return _go_back(request, f"Job {job_id} has all its attempts again.")


async def promote_job(request: PageRequest) -> ActionResult:
    job_id = request.form.get("job", "")
    await request.api.post(fill_path("/v1/jobs/{job}/promote", job=job_id))
    return _go_back(request, f"Job {job_id} runs now.")


async def remove_job(request: PageRequest) -> ActionResult:
    job_id = request.form.get("job", "")
    (await request.api.send("DELETE", fill_path("/v1/jobs/{job}", job=job_id))).parse()
    return _go_back(request, f"Job {job_id} was taken out of its queue.")


async def pause_queue(request: PageRequest) -> ActionResult:
    queue = request.form.get("queue", "")
    await request.api.post(fill_path("/v1/jobs/queues/{queue}/pause", queue=queue))
    return _go_back(request, f"No further job of {queue} is taken until it is resumed.")


async def resume_queue(request: PageRequest) -> ActionResult:
    queue = request.form.get("queue", "")
    await request.api.post(fill_path("/v1/jobs/queues/{queue}/resume", queue=queue))
    return _go_back(request, f"{queue} goes on.")


def _go_back(request: PageRequest, notice: str) -> ActionResult:
    """To the same filters; the frame lets no address lead elsewhere."""
    return ActionResult(request.form.get("back", "") or PATH, notice)
