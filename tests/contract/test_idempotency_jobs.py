"""The idempotency contract over jobs: delivered twice, died in the middle, forgotten by Redis, its id known no longer: one effect, and never none."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import pytest

from caravan.database import Database
from caravan.jobs import Enqueuer, JobStore, NewJob, Workers
from caravan.runtime import Backends
from tests.contract.job_deeds import CARELESS, KEYED, deeds, jobs, sweep, wanted
from tests.program import ROOT
from tests.shop import until


@dataclass
class Here:
    """What the handlers get, and this process's workers."""

    service: str
    database: Database
    jobs: Enqueuer

    async def effects(self, key: UUID) -> int:
        return int(await self.database.fetchval("SELECT effects FROM deed WHERE key = $1", key))

    async def rests(self, key: UUID) -> int:
        """The effects when nothing of it is in the queues any more."""

        async def quiet() -> bool:
            counts = [await self.jobs.store.queue(name).getJobCounts("waiting", "active", "delayed") for name in jobs.declared]
            return not any(count for states in counts for count in states.values()) and await self.effects(key) > 0

        await until(quiet, seconds=20)
        return await self.effects(key)


@pytest.fixture(scope="module")
async def here(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Here]:
    store = JobStore(backends.redis_url)
    async with deeds(backends, tmp_path_factory.mktemp("deeds")) as database:
        yield Here("deeds", database, Enqueuer(store, jobs))
    await store.close()


@asynccontextmanager
async def at_work(here: Here) -> AsyncIterator[None]:
    """With workers in this process."""
    workers = Workers(here.jobs.store, [(kind, here) for kind in jobs.declared.values()])
    tasks = [asyncio.create_task(work()) for _, work in workers.tasks()]
    try:
        yield
    finally:
        await workers.stop(5)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def working(here: Here) -> AsyncIterator[None]:
    async with at_work(here):
        yield


async def test_a_job_that_comes_five_times_at_once_has_its_effect_once(here: Here, working: None) -> None:
    key = await wanted(here.database)
    await here.jobs.enqueue(KEYED, *(NewJob(str(key)) for _ in range(5)))
    assert await here.rests(key) == 1


async def test_a_retried_request_with_the_same_job_id_adds_nothing(here: Here, working: None) -> None:
    key = await wanted(here.database)
    for _ in range(3):
        await here.jobs.enqueue(KEYED, NewJob(str(key), id=f"deed-{key}"))
    assert await here.rests(key) == 1
    assert (await here.jobs.store.queue(KEYED).getJob(f"deed-{key}")).attemptsMade == 1


async def test_an_id_that_redis_knows_no_longer_changes_nothing(here: Here, working: None) -> None:
    key = await wanted(here.database)
    await here.jobs.enqueue(KEYED, NewJob(str(key), id=f"deed-{key}"))
    assert await here.rests(key) == 1
    await here.jobs.store.queue(KEYED).clean(0, 1000, "completed")
    await here.jobs.enqueue(KEYED, NewJob(str(key), id=f"deed-{key}"))
    assert await here.rests(key) == 1


async def dies(here: Here, backends: Backends, point: str, queue: str, key: UUID) -> None:
    """A process takes the job and is killed at a crash point."""
    await here.jobs.enqueue(queue, NewJob(str(key)))
    arguments = (backends.database("deeds_jobs"), backends.redis_url, point, queue)
    program = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.contract.job_deeds", *arguments, cwd=ROOT)
    try:
        assert await asyncio.wait_for(program.wait(), 60) == 137
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()


@pytest.mark.parametrize(("point", "before"), [("job.before_effect", 0), ("job.after_effect", 1)])
async def test_a_process_that_dies_in_the_middle_loses_and_doubles_nothing(here: Here, backends: Backends, point: str, before: int) -> None:
    key = await wanted(here.database)
    await dies(here, backends, point, KEYED, key)
    assert await here.effects(key) == before
    assert [job.data["data"] for job in await here.jobs.store.queue(KEYED).getActive()] == [str(key)]
    async with at_work(here):
        assert await here.rests(key) == 1


async def test_a_process_that_dies_between_commit_and_enqueuing_is_covered_by_the_sweeper(here: Here, working: None) -> None:
    key = await wanted(here.database)
    assert await sweep(here) == 1
    assert await here.rests(key) == 1 and await sweep(here) == 0


async def test_what_redis_forgets_comes_back_from_the_rows(here: Here, backends: Backends) -> None:
    keys = [await wanted(here.database) for _ in range(20)]
    await here.jobs.enqueue(KEYED, *(NewJob(str(key)) for key in keys))
    await here.jobs.store.client.flushall()
    assert await here.jobs.store.queue(KEYED).getJobCounts("waiting") == {"waiting": 0}
    assert await sweep(here) == 20
    async with at_work(here):
        for key in keys:
            assert await here.rests(key) == 1


@pytest.mark.slow
async def test_a_job_that_trusts_to_come_once_is_caught_by_this_suite(here: Here, backends: Backends) -> None:
    """The planted fault: without its row the effect is doubled, and the cases above would be red."""
    key = await wanted(here.database)
    await dies(here, backends, "job.after_effect", CARELESS, key)
    async with at_work(here):

        async def doubled() -> bool:
            return await here.effects(key) == 2

        await until(doubled, seconds=20)
