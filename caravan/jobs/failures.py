"""Failed jobs as a place of the failure desk, beside the dead letters of the transports."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import orjson

from caravan.bus import DeadLetter
from caravan.clock import EPOCH, rfc3339
from caravan.errors import Conflict, NotFound
from caravan.jobs import desk
from caravan.jobs.redis import AWAY, JobStore
from caravan.telemetry import log


@dataclass(frozen=True, slots=True)
class FailedJobs:
    """What the queues of a service gave up. Jobs have no order among each other, so none is held back for another."""

    store: JobStore
    queues: Sequence[str]
    place: Literal["job"] = "job"

    async def letters(self, limit: int, preview: int) -> list[DeadLetter]:
        """Nothing while Redis is away: what the transports gave up is still to be seen."""
        try:
            known = await self.store.queues()
            found = [entry for queue in self.queues if queue in known for entry in await desk.failed(self.store, queue=queue, limit=limit)]
        except AWAY as error:
            log.warning("failed jobs can't be listed", error=repr(error))
            return []
        found.sort(key=lambda entry: entry.finished_at or EPOCH)
        return [_letter(entry, preview) for entry in found[:limit]]

    async def redrive(self, letters: Sequence[DeadLetter]) -> int:
        """Give them all their attempts again; how many. One that somebody else has retried meanwhile is not counted."""
        done = 0
        for letter in letters:
            try:
                done += await desk.retry(self.store, [letter.id])
            except (NotFound, Conflict) as problem:
                log.info("not retried", job=letter.id, why=problem.detail)
        return done

    async def discard(self, letters: Sequence[DeadLetter]) -> int:
        done = 0
        for letter in letters:
            try:
                await desk.remove(self.store, letter.id)
                done += 1
            except (NotFound, Conflict) as problem:
                log.info("not discarded", job=letter.id, why=problem.detail)
        return done


def _letter(entry: desk.Entry, preview: int) -> DeadLetter:
    """A job in the shape of a message's envelope."""
    envelope = {
        "id": entry.id,
        "type": entry.queue,
        "time": rfc3339(entry.created_at),
        "traceparent": entry.traceparent,
        "actor": entry.actor,
    }
    body = orjson.dumps({**{name: value for name, value in envelope.items() if value is not None}, "data": entry.payload}, default=str)
    return DeadLetter(
        id=entry.id,
        subscription=entry.queue,
        channel=entry.queue,
        key="",
        body=body[:preview],
        reason=entry.reason or "",
        attempt=entry.attempts,
        died_at=entry.finished_at or entry.created_at,
        size=len(body),
    )
