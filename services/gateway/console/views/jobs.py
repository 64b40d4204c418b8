"""Background jobs: the queues with their counts, and the jobs of a queue or state, with what the API can do to each."""

import asyncio
from typing import Any

import orjson

from services.gateway.console.api_client import fill_path
from services.gateway.console.listing import build_url, load_list, read_filters
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/jobs"
STATES = ("active", "waiting", "delayed", "failed", "completed")
MAX_PAYLOAD_LENGTH = 2000


async def load_jobs(request: PageRequest) -> View:
    queues, view = await asyncio.gather(
        request.api.get("/v1/jobs/queues"),
        load_list(request, "/v1/jobs", PATH, read_filters(request, "queue", "state")),
    )
    return {
        **view,
        "items": [{**job, "payload": _format_payload(job["payload"])} for job in view["items"]],
        "queues": [_add_urls(queue) for queue in queues["items"]],
        "states": STATES,
    }


def _add_urls(queue: dict[str, Any]) -> dict[str, Any]:
    urls = {state: build_url(PATH, queue=queue["name"], state=state) for state in STATES}
    return {**queue, "urls": urls, "url": build_url(PATH, queue=queue["name"])}


def _format_payload(payload: Any) -> str:
    text = orjson.dumps(payload, option=orjson.OPT_INDENT_2).decode()
    return text if len(text) <= MAX_PAYLOAD_LENGTH else f"{text[:MAX_PAYLOAD_LENGTH]}…"


async def retry_job(request: PageRequest) -> ActionResult:
    return await _change_job(request, "POST", "/retry", "has all its attempts again")


async def promote_job(request: PageRequest) -> ActionResult:
    return await _change_job(request, "POST", "/promote", "runs now")


async def remove_job(request: PageRequest) -> ActionResult:
    return await _change_job(request, "DELETE", "", "was taken out of its queue")


async def _change_job(request: PageRequest, method: str, action: str, outcome: str) -> ActionResult:
    job_id = request.form.get("job", "")
    (await request.api.send(method, fill_path("/v1/jobs/{job}", job=job_id) + action)).parse()
    return _go_back(request, f"Job {job_id} {outcome}.")


async def pause_queue(request: PageRequest) -> ActionResult:
    return await _change_queue(request, "pause", "takes no further job until it is resumed")


async def resume_queue(request: PageRequest) -> ActionResult:
    return await _change_queue(request, "resume", "goes on")


async def _change_queue(request: PageRequest, action: str, outcome: str) -> ActionResult:
    queue = request.form.get("queue", "")
    await request.api.post(fill_path("/v1/jobs/queues/{queue}", queue=queue) + f"/{action}")
    return _go_back(request, f"Queue {queue} {outcome}.")


def _go_back(request: PageRequest, notice: str) -> ActionResult:
    """To the same filters; the frame lets no address lead elsewhere."""
    return ActionResult(request.form.get("back", "") or PATH, notice)
