"""Failed jobs as a source of dead letters, beside those of the transports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from caravan.bus import DeadLetter
from caravan.clock import EPOCH, format_rfc3339
from caravan.errors import Conflict, NotFound
from caravan.jobs import admin
from caravan.jobs.redis import UNAVAILABLE_ERRORS, JobStore
from caravan.telemetry import log


@dataclass(frozen=True, slots=True)
class JobDeadLetters:
    """What the queues of a service gave up. Jobs have no order among each other, so none is held back for another."""

    store: JobStore
    queues: Sequence[str]
    origin: Literal["job"] = "job"

    async def list_dead_letters(self, limit: int, preview: int) -> list[DeadLetter]:
        """Nothing while Redis is unavailable: what the transports gave up is still to be seen."""
        try:
            queue_names = await self.store.fetch_queues()
            statuses = [
                entry
                for queue in self.queues
                if queue in queue_names
                for entry in await admin.list_failed_jobs(self.store, queue=queue, limit=limit)
            ]
        except UNAVAILABLE_ERRORS as error:
            log.warning("failed jobs can't be listed", error=repr(error))
            return []
        statuses.sort(key=lambda entry: entry.finished_at or EPOCH)
        return [_build_dead_letter(entry, preview) for entry in statuses[:limit]]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Give them all their attempts again; how many. One that somebody else has retried meanwhile is not counted."""
        count = 0
        for dead_letter in dead_letters:
            try:
                count += await admin.retry_jobs(self.store, [dead_letter.id])
            except (NotFound, Conflict) as problem:
                log.info("not retried", job=dead_letter.id, reason=problem.detail)
        return count

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        count = 0
        for dead_letter in dead_letters:
            try:
                await admin.remove_job(self.store, dead_letter.id)
                count += 1
            except (NotFound, Conflict) as problem:
                log.info("not discarded", job=dead_letter.id, reason=problem.detail)
        return count


def _build_dead_letter(status: admin.JobStatus, preview: int) -> DeadLetter:
    """A job in the shape of a message's envelope."""
    envelope = {
        "id": status.id,
        "type": status.queue,
        "time": format_rfc3339(status.created_at),
        "traceparent": status.traceparent,
        "actor": status.actor,
    }
    body = orjson.dumps(
        {**{name: value for name, value in envelope.items() if value is not None}, "data": status.payload}, default=str
    )
    return DeadLetter(
        id=status.id,
        subscription=status.queue,
        channel=status.queue,
        key="",
        body=body[:preview],
        reason=status.reason or "",
        attempt=status.attempts,
        dead_lettered_at=status.finished_at or status.created_at,
        size=len(body),
    )
