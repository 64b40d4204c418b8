"""Step 5: background work as jobs in Redis: each has attempts, a growing pause between them, and is listed when it has
failed permanently.
"""

import os
from typing import Any, Literal

from bullmq import Job, Queue
from fastapi import FastAPI, HTTPException

NAME = "shop"
ATTEMPTS = 5
BACKOFF_MS = int(os.environ.get("BACKOFF_MS", "1000"))
"""Pause after the first failure; it doubles with each."""
URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")
CONNECTION: dict[str, Any] = {"connection": f"{URL}{'&' if '?' in URL else '?'}socket_timeout=30"}
"""A worker waits up to 10 seconds on its socket for a job that is due then. Without the setting the Redis client gives
up after 5, and the worker never recovers from that."""

State = Literal["waiting", "active", "delayed", "completed", "failed"]


async def add_job(queue: Queue, kind: str, order_id: str, data: dict[str, Any], *, delay_ms: int = 0) -> None:
    """Adding the same job of an order again adds nothing."""
    retry = {"attempts": ATTEMPTS, "backoff": {"type": "exponential", "delay": BACKOFF_MS}}
    await queue.add(
        kind, data, {"jobId": f"{kind}-{order_id}", "delay": delay_ms, "removeOnComplete": {"count": 1000}, **retry}
    )


def add_job_routes(app: FastAPI, queue: Queue) -> None:
    """Look at the jobs, and try one again. The gateway doesn't list these routes: they are for those inside."""

    @app.get("/jobs")
    async def list_jobs(state: State = "failed") -> list[dict[str, Any]]:
        jobs: list[Job] = await queue.getJobs([state], 0, 99)
        return [
            {"id": job.id, "attempts": job.attemptsMade, "reason": job.failedReason, "data": job.data} for job in jobs
        ]

    @app.post("/jobs/{job_id}/retry", status_code=202)
    async def retry_job(job_id: str) -> None:
        job = await queue.getJob(job_id)
        if job is None or not await job.isFailed():
            raise HTTPException(409, f"no failed job {job_id}")
        await job.retry("failed", {"resetAttemptsMade": True})
