"""How far a rebuild of a read model is, told by the process that does it and read by whoever shows it.

It is kept in Redis, because it is of use for minutes only: what a rebuild found stands in the audit log. A rebuild goes
on, and ends as it would, while Redis is away.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field, ValidationError
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from caravan.clock import Clock
from caravan.redis_pools import create_pool
from caravan.telemetry import log

RUNNING_SECONDS = 30
"""So long a rebuild counts as running that has said nothing: its process may have been killed."""
ENDED_SECONDS = 24 * 3600
_TELL_SECONDS = 1.0
_REDIS_SECONDS = 0.5


class RebuildProgress(BaseModel):
    """A rebuild of a read model that runs, or ended within the last day."""

    state: Literal["running", "identical", "replaced", "failed"] = Field(
        description="`replaced`: the live rows differed and were put right; `failed`: nothing was changed"
    )
    events: int = Field(description="read so far")
    started_at: datetime
    ended_at: datetime | None


@dataclass(slots=True)
class RebuildRecorder:
    """Tells of one rebuild. `events` and `state` are set by whoever does it."""

    name: str
    redis: Redis
    clock: Clock
    started_at: datetime
    events: int = 0
    state: Literal["running", "identical", "replaced", "failed"] = "running"

    async def tell_again_and_again(self) -> None:
        while True:
            await self.tell(RUNNING_SECONDS)
            await asyncio.sleep(_TELL_SECONDS)

    async def tell(self, seconds: int) -> None:
        ended_at = None if self.state == "running" else self.clock()
        progress = RebuildProgress(state=self.state, events=self.events, started_at=self.started_at, ended_at=ended_at)
        try:
            async with asyncio.timeout(_REDIS_SECONDS):
                await self.redis.set(_build_key(self.name), progress.model_dump_json(), ex=seconds)
        except (RedisError, OSError, TimeoutError) as error:
            log.info("nobody sees how far a rebuild is", projection=self.name, error=repr(error))


@asynccontextmanager
async def record_rebuild(name: str, redis_url: str, clock: Clock) -> AsyncIterator[RebuildRecorder]:
    """Tell of a rebuild each second while the block runs, and how it ended; one that raises has failed."""
    pool = create_pool(ConnectionPool, redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS)
    recorder = RebuildRecorder(name, Redis.from_pool(pool), clock, clock())
    teller = asyncio.create_task(recorder.tell_again_and_again())
    try:
        yield recorder
    except BaseException:
        recorder.state = "failed"
        raise
    finally:
        teller.cancel()
        await asyncio.gather(teller, return_exceptions=True)
        await recorder.tell(ENDED_SECONDS)
        with suppress(RedisError, OSError):
            await recorder.redis.aclose()


async def find_rebuilds(redis: Redis, names: Sequence[str]) -> dict[str, RebuildProgress]:
    """Of those read models of which there is something to tell. Raises RedisError, OSError or TimeoutError."""
    if not names:
        return {}
    async with asyncio.timeout(_REDIS_SECONDS):
        stored = await redis.mget([_build_key(name) for name in names])
    found: dict[str, RebuildProgress] = {}
    for name, text in zip(names, stored, strict=True):
        with suppress(ValidationError):  # of another version
            if text is not None:
                found[name] = RebuildProgress.model_validate_json(text)
    return found


def _build_key(name: str) -> str:
    return f"rebuild:{name}"
