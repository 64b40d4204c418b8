"""What is in the queues is listed page by page, and repaired: an action on a job in another state is a conflict."""

import asyncio
from datetime import timedelta

import pytest

from caravan.clock import new_id, utc_now
from caravan.errors import BadRequest, Conflict, NotFound
from caravan.jobs import JobRequest, admin
from tests.support.job_shop import (
    FEW,
    GATE,
    GATES,
    NOTE,
    TICK,
    get_context,
    get_job_status,
    handled_data,
    wait_for_state,
    wait_until_completed,
)
from tests.support.shop import Shop, wait_until


async def test_a_delayed_job_waits_visibly_for_its_time_and_can_be_promoted(shop: Shop) -> None:
    now = utc_now()
    late, soon = await get_context(shop).jobs.enqueue(
        NOTE,
        JobRequest({"mark": "late"}, delay=timedelta(hours=1)),
        JobRequest({"mark": "soon"}, delay=timedelta(seconds=0.3)),
    )
    waiting = await get_job_status(shop, NOTE, late)
    assert waiting.state == "delayed"
    assert waiting.due_at is not None
    assert abs(waiting.due_at - now - timedelta(hours=1)) < timedelta(seconds=2)
    found = await wait_until_completed(shop, NOTE, soon)
    assert found.started_at is not None
    assert timedelta(seconds=0.29) < found.started_at - found.created_at < timedelta(seconds=1.5)
    await admin.promote_job(shop.process.jobs, f"{NOTE}:{late}")
    await wait_until_completed(shop, NOTE, late)


async def test_jobs_run_by_priority_and_a_paused_queue_keeps_them(shop: Shop) -> None:
    await admin.set_queue_paused(shop.process.jobs, NOTE, paused=True)
    new = [JobRequest({"rank": rank}, priority=rank) for rank in (10, 1, 5)]
    ids = await get_context(shop).jobs.enqueue(NOTE, *new, JobRequest({"rank": 0}))
    waiting, _ = await admin.list_jobs(shop.process.jobs, state="waiting", queue=NOTE)
    assert {f"{NOTE}:{job_id}" for job_id in ids} <= {found.id for found in waiting}
    assert next(found for found in await admin.list_queues(shop.process.jobs) if found.name == NOTE).paused
    await admin.set_queue_paused(shop.process.jobs, NOTE, paused=False)
    for job_id in ids:
        await wait_until_completed(shop, NOTE, job_id)
    assert [data["rank"] for data in handled_data if isinstance(data, dict) and "rank" in data] == [0, 1, 5, 10]


async def test_retention_is_bounded(shop: Shop) -> None:
    ids = await get_context(shop).jobs.enqueue(
        FEW, *(JobRequest("fail" if number % 2 else "fine") for number in range(40))
    )

    async def is_all_done() -> bool:
        counts = await shop.process.jobs.get_queue(FEW).getJobCounts()
        return not any(counts[state] for state in ("waiting", "active", "delayed")) and len(ids) == 40

    await wait_until(is_all_done)
    counts = await shop.process.jobs.get_queue(FEW).getJobCounts("completed", "failed")
    assert counts == {"completed": 5, "failed": 3}
    assert await admin.clean_queue(shop.process.jobs, FEW, "failed", timedelta()) == 3


async def test_pages_follow_each_other_and_hold_each_job_once(shop: Shop) -> None:
    store = shop.process.jobs
    ids = await get_context(shop).jobs.enqueue(
        NOTE, *(JobRequest({"page": number}, delay=timedelta(hours=1 + number)) for number in range(7))
    )
    found: list[str] = []
    cursor: admin.JobCursor | None = None
    while True:
        page, cursor = await admin.list_jobs(store, state="delayed", queue=NOTE, after=cursor, limit=3)
        found += [status.id for status in page]
        assert len(page) <= 3
        if cursor is None:
            break
    assert [job_id for job_id in found if job_id.partition(":")[2] in ids] == [f"{NOTE}:{job_id}" for job_id in ids]
    assert len(found) == len({*found})
    with pytest.raises(BadRequest, match="cursor"):
        await admin.list_jobs(store, state="delayed", queue=NOTE, after=(NOTE, "failed", 0))
    assert await admin.clean_queue(store, NOTE, "delayed", timedelta()) == len(found)


async def test_an_action_on_a_job_in_another_state_is_a_conflict_that_names_it(shop: Shop) -> None:
    store, mark = shop.process.jobs, f"gate-{new_id()}"
    (running,) = await get_context(shop).jobs.enqueue(GATE, JobRequest(mark))
    await wait_for_state(shop, GATE, running, "active")
    with pytest.raises(Conflict, match="is running"):
        await admin.remove_job(store, f"{GATE}:{running}")
    with pytest.raises(Conflict, match="is active: only a failed job can be retried"):
        await admin.retry_jobs(store, [f"{GATE}:{running}"])
    GATES.setdefault(mark, asyncio.Event()).set()
    await wait_until_completed(shop, GATE, running)
    with pytest.raises(Conflict, match="is completed: only a delayed job can be promoted"):
        await admin.promote_job(store, f"{GATE}:{running}")
    await admin.remove_job(store, f"{GATE}:{running}")
    with pytest.raises(NotFound, match=f"no job {GATE}:{running}"):
        await get_job_status(shop, GATE, running)


@pytest.mark.parametrize(
    "public_id", [f"{NOTE}:meta", f"{NOTE}:a:b", f"{NOTE}:", "nobody.at-all:1", "x", "", "x" * 999]
)
async def test_what_is_no_job_is_not_found_whatever_key_it_names(shop: Shop, public_id: str) -> None:
    for action in (admin.get_job, admin.promote_job, admin.remove_job):
        with pytest.raises(NotFound, match="no job") as refusal:
            await action(shop.process.jobs, public_id)
        assert len(refusal.value.detail) < 300


async def test_a_queue_that_nobody_announced_is_not_found_with_those_there_are(shop: Shop) -> None:
    with pytest.raises(NotFound, match=rf"no queue 'demo\.nobody'; there are .*{NOTE}"):
        await admin.list_jobs(shop.process.jobs, queue="demo.nobody")
    with pytest.raises(NotFound):
        await admin.set_queue_paused(shop.process.jobs, "demo.nobody", paused=True)
    with pytest.raises(NotFound):
        await admin.clean_queue(shop.process.jobs, "demo.nobody", "failed", timedelta())


async def test_queues_are_listed_with_their_schedules_and_limits(shop: Shop) -> None:
    queues = {queue.name: queue for queue in await admin.list_queues(shop.process.jobs)}
    assert queues[TICK].schedule == "every 0.2 s"
    assert (queues[NOTE].schedule, queues[NOTE].attempts, queues[NOTE].concurrency) == (None, 3, 1)


async def test_secrets_of_a_job_are_not_shown(shop: Shop) -> None:
    (job_id,) = await get_context(shop).jobs.enqueue(
        NOTE, JobRequest({"password": "hunter2"}, delay=timedelta(hours=1))
    )
    status = await get_job_status(shop, NOTE, job_id)
    assert "hunter2" not in repr(status)
    await admin.remove_job(shop.process.jobs, status.id)
