"""A process announces its queues and schedules in Redis, and again after Redis has forgotten them."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from caravan.clock import new_id
from caravan.jobs import Cron, Interval, JobRequest, JobStore, JobType, Workers, admin
from caravan.runtime import Backends
from caravan.telemetry import metrics
from tests.support.job_shop import NOTE, TICK, get_context, handled_data
from tests.support.shop import Shop, wait_until


async def test_a_schedule_runs_again_and_again_and_comes_back_after_a_flush(shop: Shop) -> None:
    async def count_ticks(times: int) -> int:
        ticks = [data for data in handled_data if isinstance(data, tuple) and data[0] == "tick"]
        return len(ticks) >= times and len(ticks)

    tick_count = await wait_until(lambda: count_ticks(3))
    listed = next(found for found in await admin.list_queues(shop.process.jobs) if found.name == TICK)
    assert listed.schedule == "every 0.2 s"
    assert listed.next_at is not None
    await shop.process.jobs.client.flushall()
    await shop.process.workers.announce_queues()
    await wait_until(lambda: count_ticks(int(tick_count) + 3))


async def test_the_gauges_say_what_is_in_the_queues(shop: Shop) -> None:
    await get_context(shop).jobs.enqueue(NOTE, JobRequest({"mark": "gauge"}, delay=timedelta(hours=1)))
    await shop.process.workers.update_gauges()
    assert metrics.JOB_COUNT.labels(NOTE, "delayed")._value.get() >= 1


async def run_nothing(_: Any, __: Any) -> None: ...


@pytest.fixture
async def store(backends: Backends) -> AsyncIterator[JobStore]:
    opened = JobStore(backends.redis_url)
    yield opened
    await opened.close()


async def announce(store: JobStore, name: str, **limits: Any) -> dict[str, Any] | None:
    """As a process that declares this job type; its schedule after that, as Redis keeps it."""
    await Workers(store, [(JobType(name, run_nothing, **limits), None)]).announce_queues()
    return await store.fetch_schedule(name)


async def test_a_schedule_follows_its_declaration(store: JobStore) -> None:
    name = f"demo.follow-{new_id().hex}"
    hourly = await announce(store, name, schedule=Interval(3600))
    assert hourly is not None
    assert hourly["every"] == 3_600_000
    assert await announce(store, name, schedule=Interval(3600)) == hourly, "announced again it does not begin anew"
    daily = await announce(store, name, schedule=Cron("30 9 * * *", "Europe/London"))
    assert daily is not None
    assert (daily["pattern"], daily["tz"]) == ("30 9 * * *", "Europe/London")
    assert await announce(store, name) is None, "what is declared no more is removed"


async def test_queues_are_announced_with_what_others_must_know_of_them(store: JobStore) -> None:
    name = f"demo.tell-{new_id().hex}"
    await announce(store, name, attempts=7, concurrency=3, global_concurrency=2)
    reported = (await store.fetch_queues())[name]
    assert (reported["attempts"], reported["concurrency"], reported["schedule"]) == (7, 3, None)
    meta = store.get_queue(name).keys["meta"]
    assert await store.client.hget(meta, "concurrency") == "2"
    await announce(store, name)
    assert await store.client.hget(meta, "concurrency") is None, "a limit that is gone binds nobody"


async def test_a_process_without_jobs_runs_nothing_for_them(store: JobStore) -> None:
    assert Workers(store, []).list_background_tasks() == []
    names = [name for name, _ in Workers(store, [(JobType("demo.a-b", run_nothing), None)]).list_background_tasks()]
    assert names == ["job queues", "jobs demo.a-b"]


async def test_gauges_without_redis_are_left_as_they_are() -> None:
    store = JobStore("redis://127.0.0.1:1/0")
    gauge = metrics.JOB_COUNT.labels("demo.a-b", "waiting")
    gauge.set(7)
    await Workers(store, [(JobType("demo.a-b", run_nothing), None)]).update_gauges()
    await store.close()
    assert gauge._value.get() == 7
