"""The idempotency contract over jobs: delivered twice, died in the middle, forgotten by Redis, its id known no longer:
one effect, and never none.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest

from caravan.database import Database
from caravan.jobs import Enqueuer, JobRequest, JobStore, Workers
from caravan.runtime import Backends
from tests.contract.job_program import CARELESS, KEYED, insert_pending, jobs, open_database, sweep_lost_jobs
from tests.support.program import ROOT
from tests.support.shop import wait_until


@dataclass
class JobContext:
    """What the handlers get, and this process's workers."""

    service: str
    database: Database
    jobs: Enqueuer

    async def count_effects(self, key: UUID) -> int:
        return int(await self.database.fetchval("SELECT effects FROM action WHERE key = $1", key))

    async def wait_until_idle(self, key: UUID) -> int:
        """The effects when nothing of it is in the queues any more."""

        async def is_idle() -> bool:
            counts = [
                await self.jobs.store.get_queue(name).getJobCounts("waiting", "active", "delayed")
                for name in jobs.job_types
            ]
            return (
                not any(count for states in counts for count in states.values()) and await self.count_effects(key) > 0
            )

        await wait_until(is_idle, seconds=20)
        return await self.count_effects(key)


@pytest.fixture(scope="module")
async def here(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[JobContext]:
    store = JobStore(backends.redis_url)
    async with open_database(backends, tmp_path_factory.mktemp("actions")) as database:
        yield JobContext("actions", database, Enqueuer(store, jobs))
    await store.close()


@asynccontextmanager
async def run_workers(here: JobContext) -> AsyncIterator[None]:
    """With workers in this process."""
    workers = Workers(here.jobs.store, [(kind, here) for kind in jobs.job_types.values()])
    tasks = [asyncio.create_task(run()) for _, run in workers.list_background_tasks()]
    try:
        yield
    finally:
        await workers.stop(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def working(here: JobContext) -> AsyncIterator[None]:
    async with run_workers(here):
        yield


async def test_a_job_that_comes_five_times_at_once_has_its_effect_once(here: JobContext, working: None) -> None:
    key = await insert_pending(here.database)
    await here.jobs.enqueue(KEYED, *(JobRequest(str(key)) for _ in range(5)))
    assert await here.wait_until_idle(key) == 1


async def test_a_retried_request_with_the_same_job_id_adds_nothing(here: JobContext, working: None) -> None:
    key = await insert_pending(here.database)
    for _ in range(3):
        await here.jobs.enqueue(KEYED, JobRequest(str(key), id=f"action-{key}"))
    assert await here.wait_until_idle(key) == 1
    assert (await here.jobs.store.get_queue(KEYED).getJob(f"action-{key}")).attemptsMade == 1


async def test_an_id_that_redis_knows_no_longer_changes_nothing(here: JobContext, working: None) -> None:
    key = await insert_pending(here.database)
    await here.jobs.enqueue(KEYED, JobRequest(str(key), id=f"action-{key}"))
    assert await here.wait_until_idle(key) == 1
    await here.jobs.store.get_queue(KEYED).clean(0, 1000, "completed")
    await here.jobs.enqueue(KEYED, JobRequest(str(key), id=f"action-{key}"))
    assert await here.wait_until_idle(key) == 1


async def kill_in_job(here: JobContext, backends: Backends, point: str, queue: str, key: UUID) -> None:
    """A process takes the job and is killed at a crash point."""
    await here.jobs.enqueue(queue, JobRequest(str(key)))
    arguments = (backends.get_database_url("actions_jobs"), backends.redis_url, point, queue)
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.job_program", *arguments, cwd=ROOT
    )
    try:
        assert await asyncio.wait_for(program.wait(), 60) == 137
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


@pytest.mark.parametrize(("point", "before"), [("job.before_effect", 0), ("job.after_effect", 1)])
async def test_a_process_that_dies_in_the_middle_loses_and_doubles_nothing(
    here: JobContext, backends: Backends, point: str, before: int
) -> None:
    key = await insert_pending(here.database)
    await kill_in_job(here, backends, point, KEYED, key)
    assert await here.count_effects(key) == before
    assert [job.data["data"] for job in await here.jobs.store.get_queue(KEYED).getActive()] == [str(key)]
    async with run_workers(here):
        assert await here.wait_until_idle(key) == 1


async def test_a_process_that_dies_between_commit_and_enqueuing_is_covered_by_the_sweeper(
    here: JobContext, working: None
) -> None:
    key = await insert_pending(here.database)
    assert await sweep_lost_jobs(here) == 1
    assert await here.wait_until_idle(key) == 1
    assert await sweep_lost_jobs(here) == 0


async def test_what_redis_forgets_comes_back_from_the_rows(here: JobContext, backends: Backends) -> None:
    keys = [await insert_pending(here.database) for _ in range(20)]
    await here.jobs.enqueue(KEYED, *(JobRequest(str(key)) for key in keys))
    await here.jobs.store.client.flushall()
    assert await here.jobs.store.get_queue(KEYED).getJobCounts("waiting") == {"waiting": 0}
    assert await sweep_lost_jobs(here) == 20
    async with run_workers(here):
        for key in keys:
            assert await here.wait_until_idle(key) == 1


@pytest.mark.slow
async def test_a_job_that_trusts_to_come_once_is_caught_by_this_suite(here: JobContext, backends: Backends) -> None:
    """The planted fault: without its row the effect is doubled, and the cases above would be red."""
    key = await insert_pending(here.database)
    await kill_in_job(here, backends, "job.after_effect", CARELESS, key)
    async with run_workers(here):

        async def is_doubled() -> bool:
            return await here.count_effects(key) == 2

        await wait_until(is_doubled, seconds=20)
