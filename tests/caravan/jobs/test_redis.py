"""The Redis of the jobs may be away, forget everything, or be the wrong one: nothing stops for it."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import bullmq.worker
import pytest
import structlog
from redis.asyncio import Redis

from caravan.clock import new_id
from caravan.concurrency import end_tasks
from caravan.jobs import Cron, JobRequest, JobStore, JobsUnavailable, ServerTooOld, worker
from caravan.jobs.redis import BLOCK_SECONDS
from caravan.runtime import Backends, process
from tests.support.job_shop import NOTE, handled_data, jobs, service, wait_until_completed
from tests.support.shop import run_services, wait_until

NOWHERE = "redis://127.0.0.1:1/0"


async def test_without_redis_a_process_starts_and_enqueuing_says_so_at_once(backends: Backends) -> None:
    servers = Backends(backends.database_url, backends.redis_url, backends.secret, NOWHERE)
    async with run_services(servers, extra_services=(service,)) as shop:
        enqueuer = shop.get_context("demo").jobs
        started = time.monotonic()
        with pytest.raises(JobsUnavailable, match=r"demo\.note-take"):
            await enqueuer.enqueue("demo.note-take")
        enqueuer.enqueue_soon("demo.note-take")  # after a commit: nobody is told, the sweeper finds the row
        await enqueuer.flush()
        assert time.monotonic() - started < 5


async def test_jobs_use_a_redis_of_their_own_when_one_is_named(backends: Backends) -> None:
    other = backends.redis_url.removesuffix("/0") + "/7"
    async with run_services(
        Backends(backends.database_url, backends.redis_url, backends.secret, other), extra_services=(service,)
    ) as shop:
        (job_id,) = await shop.get_context("demo").jobs.enqueue("demo.note-take")
        here = Redis.from_url(other)
        assert await here.exists(f"caravan:demo.note-take:{job_id}")
        await here.flushdb()
        await here.aclose()


async def test_a_redis_that_evicts_is_warned_of_and_serves(backends: Backends) -> None:
    admin = Redis.from_url(backends.redis_url)
    await admin.config_set("maxmemory-policy", "allkeys-lru")
    try:
        async with run_services(backends, extra_services=(service,)) as shop:
            ready = (await shop.client.get("/readyz")).json()
            assert ready["status"] == "ready"
            assert "allkeys-lru" in ready["warnings"]["jobs"]
            assert "noeviction" in ready["warnings"]["jobs"]
    finally:
        await admin.config_set("maxmemory-policy", "noeviction")
        await admin.aclose()
    async with run_services(backends, extra_services=(service,)) as shop:
        assert (await shop.client.get("/readyz")).json()["warnings"] == {}


async def test_a_redis_that_refuses_the_login_is_told_and_the_process_serves(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(process, "log", logger)
    wrong = f"redis://:not-the-password@{backends.redis_url.rpartition('@')[2]}"
    async with run_services(replace(backends, jobs_redis_url=wrong), extra_services=(service,)) as shop:
        assert (await shop.client.get("/readyz")).json()["status"] == "ready"
    (warning,) = [call for call in logger.calls if call.method_name == "warning"]
    assert warning.args == ("the Redis of the jobs can't be used, they wait for it",)
    assert "invalid username-password pair" in warning.kwargs["error"]
    assert "not-the-password" not in str(logger.calls)


async def test_jobs_wait_for_a_redis_that_refuses_to_tell_its_version(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(worker, "log", logger)
    admin = Redis.from_url(backends.redis_url)
    await admin.acl_setuser(
        "mute", enabled=True, passwords=["+pw"], keys="*", channels="*", commands=["+@all", "-info"]
    )
    refusing = f"redis://mute:pw@{backends.redis_url.rpartition('@')[2]}"
    mark = {"mark": str(new_id())}
    try:
        async with run_services(replace(backends, jobs_redis_url=refusing), extra_services=(service,)) as shop:
            (job_id,) = await shop.get_context("demo").jobs.enqueue(NOTE, JobRequest(mark))

            async def is_waiting() -> bool:
                return any(call.kwargs.get("queue") == NOTE for call in logger.calls)

            await wait_until(is_waiting)
            waiting = next(call for call in logger.calls if call.kwargs.get("queue") == NOTE)
            assert waiting.args == ("jobs wait for redis",)
            assert "'info' command" in waiting.kwargs["error"]
            assert mark not in handled_data
            await admin.acl_setuser("mute", enabled=True, commands=["+info"])
            await wait_until_completed(shop, NOTE, job_id)
    finally:
        await admin.acl_deluser("mute")
        await admin.aclose()


async def test_jobs_wait_for_a_newer_redis_when_the_one_that_comes_back_is_too_old(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has not refused it: it was away at the start."""
    logger = structlog.testing.CapturingLogger()
    monkeypatch.setattr(worker, "log", logger)
    version = "7.0.7"

    async def fetch_info(_: Redis) -> dict[str, str]:
        return {"redis_version": version}

    monkeypatch.setattr(Redis, "info", fetch_info)
    started = asyncio.Event()

    async def run(_: bullmq.Worker) -> None:
        started.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bullmq.Worker, "run", run)
    task = asyncio.create_task(worker.JobWorker(JobStore(backends.redis_url), jobs.job_types[NOTE], None).run())
    try:

        async def is_waiting() -> bool:
            return bool(logger.calls)

        await wait_until(is_waiting)
        assert logger.calls[0].args == ("jobs wait for redis",)
        assert "the Redis of the jobs is 7.0.7; they need" in logger.calls[0].kwargs["error"]
        assert not started.is_set()
        version = "7.0.8"
        await asyncio.wait_for(started.wait(), 5)
    finally:
        await end_tasks([task])


@pytest.mark.parametrize(
    ("info", "is_refused"),
    [
        ({"redis_version": "6.2.14"}, True),
        ({"redis_version": "7.0.7"}, True),
        ({"redis_version": "7.0.8"}, False),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, False),
        ({"redis_version": "8.4.0-m02"}, False),
        ({}, False),
    ],
)
async def test_a_redis_that_is_too_old_is_refused(info: dict[str, str], is_refused: bool) -> None:
    store = JobStore(NOWHERE)

    async def fetch_info() -> dict[str, str]:
        return info

    store.client.info = fetch_info  # type: ignore[method-assign,assignment]
    if is_refused:
        with pytest.raises(ServerTooOld, match=r"is [67]\.[02]\.\d+; they need .* >= 7\.0\.8: upgrade it, or name"):
            await store.check_server()
    else:
        assert await store.check_server() is None


@pytest.mark.parametrize(
    ("pattern", "zone", "message"),
    [
        ("every day", "UTC", "five fields"),
        ("99 * * * *", "UTC", "five fields"),
        ("0 9 * * *", "Mars/Olympus", "IANA"),
        ("0 0 31 2 *", "UTC", "never|no time"),
    ],
)
def test_a_schedule_that_can_not_be_is_refused_with_what_was_expected(pattern: str, zone: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Cron(pattern, zone)


def test_a_cron_spec_means_the_clock_on_the_wall_of_its_zone() -> None:
    london: Any = Cron("30 9 * * *", "Europe/London")
    winter, summer = datetime(2026, 1, 15, 0, 0, tzinfo=UTC), datetime(2026, 7, 15, 0, 0, tzinfo=UTC)
    assert london.compute_next_time(winter).astimezone(UTC).hour == 9
    assert london.compute_next_time(summer).astimezone(UTC).hour == 8


def test_an_idle_worker_may_wait_for_a_later_job_longer_than_its_connection_takes_silence_for_a_fault() -> None:
    """A worker asks for as long as it is until the next delayed job is due, bounded by the library; the answer may come
    at the end of that.
    """
    store = JobStore("redis://nobody")
    longest = max(bullmq.worker.default_maximum_block_timeout, BLOCK_SECONDS)
    assert store.blocking_pool.connection_kwargs["socket_timeout"] > longest
