"""Routes of background jobs of all services (`/v1/jobs`): list, show, retry, promote, remove, clean and pause. Each
action is audited.
"""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from caravan.auth import Admin
from caravan.errors import ServiceUnavailable
from caravan.http import (
    CursorParameter,
    Injected,
    Limit,
    decode_cursor,
    encode_cursor,
    make_json_response,
    parse_text_part,
)
from caravan.jobs import UNAVAILABLE_ERRORS, admin
from caravan.jobs.admin import CleanableState, JobState
from caravan.schemas import Page, StrictModel
from caravan.text import WITHOUT_CONTROLS
from services.gateway.admin.actions import record_action
from services.gateway.use_cases import GatewayContext


async def _translate_unavailable() -> AsyncIterator[None]:
    try:
        yield
    except UNAVAILABLE_ERRORS as error:
        raise ServiceUnavailable(
            f"the Redis of the jobs can't be reached ({type(error).__name__}); what is due stays in the services' "
            "databases"
        ) from error


router = APIRouter(tags=["gateway"], dependencies=[Depends(_translate_unavailable)])
JobId = Annotated[
    str,
    Path(
        max_length=300, pattern=WITHOUT_CONTROLS, description="`<queue>:<id>`", examples=["payments.capture-retry:42"]
    ),
]
QueueName = Annotated[str, Path(max_length=100, pattern=WITHOUT_CONTROLS, examples=["payments.capture-retry"])]


class JobView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: str = Field(description="`<queue>:<id>`")
    queue: str
    state: JobState
    payload: Any = Field(description="what the job is about; the truth is in the service's database")
    attempts: int = Field(description="attempts made")
    attempts_allowed: int
    priority: int = Field(description="0: before all that have one; 1 goes before 2")
    progress: Any
    result: Any
    reason: str | None = Field(description="why its last attempt failed")
    cause: str = Field(description="the reason without what differs from job to job")
    trace_id: str | None
    request_id: str | None
    actor: str | None = Field(description="in whose name it was enqueued")
    created_at: datetime
    due_at: datetime | None = Field(description="when a delayed job is next tried")
    started_at: datetime | None
    finished_at: datetime | None


class QueueView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    name: str
    paused: bool
    counts: dict[str, int] = Field(description="jobs by state")
    schedule: str | None = Field(description="cron spec and its time zone, or an interval", examples=["17 3 * * * UTC"])
    next_at: datetime | None = Field(description="when the schedule is next due")
    attempts: int = Field(description="attempts that a job of this queue has")
    concurrency: int = Field(description="jobs at a time in one process")


class Queues(BaseModel):
    items: list[QueueView]


class CleanRequest(StrictModel):
    """Which finished, failed or waiting jobs to remove."""

    queue: str = Field(max_length=100, pattern=WITHOUT_CONTROLS, examples=["payments.capture-retry"])
    state: CleanableState
    older_than_seconds: int = Field(0, ge=0, le=10 * 365 * 86400)


class CleanResult(BaseModel):
    removed: int


@router.get("/v1/jobs", response_model=Page[JobView])
async def list_jobs(
    context: Injected[GatewayContext],
    caller: Admin,
    state: Annotated[JobState | None, Query(description="only those in this state")] = None,
    queue: Annotated[str | None, Query(max_length=100, description="only those of this queue")] = None,
    limit: Limit = 20,
    cursor: CursorParameter = None,
) -> Response:
    """Jobs by queue and state, the oldest first. A job that moves on while you page may be seen twice or not at all."""
    after = decode_cursor(cursor, parse_text_part, parse_text_part, _parse_offset)
    entries, next_position = await admin.list_jobs(
        context.jobs.store,
        state=state,
        queue=queue,
        after=(after[0], after[1], after[2]) if after else None,
        limit=limit,
    )
    items = [JobView.model_validate(entry) for entry in entries]
    return make_json_response(
        Page[JobView](items=items, next_cursor=encode_cursor(*next_position) if next_position else None)
    )


def _parse_offset(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**31:
        raise ValueError("no offset")
    return value


@router.get("/v1/jobs/queues", response_model=Queues)
async def list_queues(context: Injected[GatewayContext], caller: Admin) -> Response:
    """Every queue with its counts, and its schedule if it has one."""
    return make_json_response(
        Queues(items=[QueueView.model_validate(queue) for queue in await admin.list_queues(context.jobs.store)])
    )


@router.post("/v1/jobs/queues/{queue}/pause", status_code=204)
async def pause_queue(context: Injected[GatewayContext], caller: Admin, queue: QueueName) -> Response:
    """Take no further job of this queue, in any process; those that run end. Others go on."""
    async with record_action(context, "queue.paused", f"queue:{queue}"):
        await admin.set_queue_paused(context.jobs.store, queue, paused=True)
    return Response(status_code=204)


@router.post("/v1/jobs/queues/{queue}/resume", status_code=204)
async def resume_queue(context: Injected[GatewayContext], caller: Admin, queue: QueueName) -> Response:
    """Go on with a paused queue."""
    async with record_action(context, "queue.resumed", f"queue:{queue}"):
        await admin.set_queue_paused(context.jobs.store, queue, paused=False)
    return Response(status_code=204)


@router.post("/v1/jobs/clean", response_model=CleanResult)
async def clean_jobs(context: Injected[GatewayContext], caller: Admin, body: CleanRequest) -> Response:
    """Remove the jobs of a queue that have been in a state for a while. What they were about is still in the service's
    database.
    """
    details = {"state": body.state, "older_than_seconds": body.older_than_seconds}
    async with record_action(context, "queue.cleaned", f"queue:{body.queue}", **details) as outcome:
        removed = outcome["removed"] = await admin.clean_queue(
            context.jobs.store, body.queue, body.state, timedelta(seconds=body.older_than_seconds)
        )
    return make_json_response(CleanResult(removed=removed))


@router.get("/v1/jobs/{job_id}", response_model=JobView)
async def get_job(context: Injected[GatewayContext], caller: Admin, job_id: JobId) -> Response:
    """One job: state, attempts, progress, result or reason, trace."""
    return make_json_response(JobView.model_validate(await admin.get_job(context.jobs.store, job_id)))


@router.post("/v1/jobs/{job_id}/retry", response_model=JobView)
async def retry_job(context: Injected[GatewayContext], caller: Admin, job_id: JobId) -> Response:
    """Give a failed job all its attempts again; 409 for one that has not failed."""
    async with record_action(context, "job.retried", f"job:{job_id}"):
        await admin.retry_jobs(context.jobs.store, [job_id])
    return make_json_response(JobView.model_validate(await admin.get_job(context.jobs.store, job_id)))


@router.post("/v1/jobs/{job_id}/promote", response_model=JobView)
async def promote_job(context: Injected[GatewayContext], caller: Admin, job_id: JobId) -> Response:
    """Let a delayed job run now; 409 for one that is not delayed."""
    async with record_action(context, "job.promoted", f"job:{job_id}"):
        promoted = await admin.promote_job(context.jobs.store, job_id)
    return make_json_response(JobView.model_validate(promoted))


@router.delete("/v1/jobs/{job_id}", status_code=204)
async def remove_job(context: Injected[GatewayContext], caller: Admin, job_id: JobId) -> Response:
    """Take a job out of its queue; 409 while it runs, and for the next run of a schedule."""
    async with record_action(context, "job.removed", f"job:{job_id}"):
        await admin.remove_job(context.jobs.store, job_id)
    return Response(status_code=204)
