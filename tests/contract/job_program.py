"""An action as a row with a job that does it; as a program it is what dies in the middle of one."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from caravan import failpoint
from caravan.clock import new_id
from caravan.database import Database
from caravan.database.migrations import KERNEL_VERSIONS, provision_databases, upgrade_database
from caravan.jobs import Job, JobRequest, Jobs, JobStore, Workers
from caravan.runtime import Backends

KEYED, CARELESS = "actions.action-do", "actions.careless-do"
VERSION = """
from alembic import op
revision = "actions_jobs0001"
down_revision = None
branch_labels = ("actions_jobs",)
def upgrade():
    op.execute(
        "CREATE TABLE action (key uuid PRIMARY KEY, done boolean NOT NULL DEFAULT false,"
        " effects int NOT NULL DEFAULT 0)"
    )
"""

jobs = Jobs("actions")


@jobs.job(KEYED, lease_seconds=0.5, concurrency=5)
async def run_keyed_job(context: Any, job: Job) -> None:
    """The row says whether it is still to be done."""
    async with context.database.unit_of_work() as uow:
        await uow.execute(
            "UPDATE action SET done = true, effects = effects + 1 WHERE key = $1 AND NOT done", UUID(job.data)
        )


@jobs.job(CARELESS, lease_seconds=0.5)
async def run_careless_job(context: Any, job: Job) -> None:
    """What a job must not do: trust that it comes once."""
    await context.database.fetch("UPDATE action SET done = true, effects = effects + 1 WHERE key = $1", UUID(job.data))


async def sweep_lost_jobs(context: Any) -> int:
    """Actions whose job was lost get another one."""
    open_rows = await context.database.fetch("SELECT key FROM action WHERE NOT done")
    if open_rows:
        await context.jobs.enqueue(
            KEYED, *(JobRequest(str(row[0]), id=f"sweep-{row[0]}", keep="never") for row in open_rows)
        )
    return len(open_rows)


async def insert_pending(database: Database) -> UUID:
    """An action that is to be done, committed, and its job not yet enqueued."""
    key = new_id()
    await database.fetch("INSERT INTO action (key) VALUES ($1)", key)
    return key


@asynccontextmanager
async def open_database(backends: Backends, folder: Path) -> AsyncIterator[Database]:
    (folder / "0001_actions.py").write_text(VERSION)
    await provision_databases(backends.database_url, {"actions_jobs": backends.get_password("actions_jobs")})
    await upgrade_database("actions_jobs", backends.get_database_url("actions_jobs"), [KERNEL_VERSIONS, folder])
    database = await Database.open("actions_jobs", backends.get_database_url("actions_jobs"))
    try:
        yield database
    finally:
        await database.close()


async def main(database_url: str, redis_url: str, point: str, queue: str) -> None:
    failpoint.arm(point)
    store = JobStore(redis_url)
    context = SimpleNamespace(service="actions", database=await Database.open("actions_jobs", database_url))
    await asyncio.gather(
        *(run() for _, run in Workers(store, [(jobs.job_types[queue], context)]).list_background_tasks())
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
