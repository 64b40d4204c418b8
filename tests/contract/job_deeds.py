"""A deed as a row with a job that does it; as a program it is what dies in the middle of one."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from caravan import crash
from caravan.clock import new_id
from caravan.database import Database
from caravan.jobs import Job, Jobs, JobStore, NewJob, Workers
from caravan.migrations import KERNEL, provision, upgrade
from caravan.runtime import Backends

KEYED, CARELESS = "deeds.deed-do", "deeds.careless-do"
VERSION = """
from alembic import op
revision = "deeds_jobs0001"
down_revision = None
branch_labels = ("deeds_jobs",)
def upgrade():
    op.execute("CREATE TABLE deed (key uuid PRIMARY KEY, done boolean NOT NULL DEFAULT false, effects int NOT NULL DEFAULT 0)")
"""

jobs = Jobs("deeds")


@jobs.job(KEYED, lease_seconds=0.5, concurrency=5)
async def do_deed(context: Any, job: Job) -> None:
    """The row says whether it is still to be done."""
    async with context.database.work() as work:
        await work.execute("UPDATE deed SET done = true, effects = effects + 1 WHERE key = $1 AND NOT done", UUID(job.data))


@jobs.job(CARELESS, lease_seconds=0.5)
async def do_carelessly(context: Any, job: Job) -> None:
    """What a job must not do: trust that it comes once."""
    await context.database.fetch("UPDATE deed SET done = true, effects = effects + 1 WHERE key = $1", UUID(job.data))


async def sweep(context: Any) -> int:
    """Deeds whose job was lost get another one."""
    open_deeds = await context.database.fetch("SELECT key FROM deed WHERE NOT done")
    if open_deeds:
        await context.jobs.enqueue(KEYED, *(NewJob(str(row[0]), id=f"sweep-{row[0]}", kept="never") for row in open_deeds))
    return len(open_deeds)


async def wanted(database: Database) -> UUID:
    """A deed that is to be done, committed, and its job not yet enqueued."""
    key = new_id()
    await database.fetch("INSERT INTO deed (key) VALUES ($1)", key)
    return key


@asynccontextmanager
async def deeds(backends: Backends, folder: Path) -> AsyncIterator[Database]:
    (folder / "0001_deeds.py").write_text(VERSION)
    await provision(backends.database_url, {"deeds_jobs": backends.password("deeds_jobs")})
    await upgrade("deeds_jobs", backends.database("deeds_jobs"), [KERNEL, folder])
    database = await Database.open("deeds_jobs", backends.database("deeds_jobs"))
    try:
        yield database
    finally:
        await database.close()


async def main(database_url: str, redis_url: str, point: str, queue: str) -> None:
    crash.arm(point)
    store = JobStore(redis_url)
    context = SimpleNamespace(service="deeds", database=await Database.open("deeds_jobs", database_url))
    await asyncio.gather(*(work() for _, work in Workers(store, [(jobs.declared[queue], context)]).tasks()))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
