"""Jobs on a real Redis: everything that is promised of enqueuing and of running them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from caravan import telemetry
from caravan.clock import new_id, utc_now
from caravan.dead_letters import DeadLetterService
from caravan.dead_letters.schemas import DiscardRequest, ListRequest, Selection
from caravan.jobs import JobRequest, admin
from caravan.jobs.dead_letters import JobDeadLetters
from caravan.runtime import Backends
from caravan.telemetry import metrics
from tests.support.job_shop import GATES, get_context, handled_data, run_demo
from tests.support.program import ROOT
from tests.support.shop import Shop, wait_until

NOTE, GATE, LEASH, FEW, TICK = "demo.note-take", "demo.gate-pass", "demo.leash-hold", "demo.few-keep", "demo.clock-tick"


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_demo(backends) as shop:
        yield shop


async def get_job_status(shop: Shop, queue: str, job_id: str) -> admin.JobStatus:
    return await admin.get_job(shop.process.jobs, f"{queue}:{job_id}")


async def wait_for_state(shop: Shop, queue: str, job_id: str, state: str) -> admin.JobStatus:
    async def fetch_if_reached() -> admin.JobStatus | None:
        found = await get_job_status(shop, queue, job_id)
        return found if found.state == state else None

    found = await wait_until(fetch_if_reached)
    assert found is not None
    return found


async def wait_until_completed(shop: Shop, queue: str, job_id: str) -> admin.JobStatus:
    return await wait_for_state(shop, queue, job_id, "completed")


async def test_a_job_runs_once_with_its_data_and_keeps_its_result(shop: Shop) -> None:
    mark = str(new_id())
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"mark": mark}))
    found = await wait_until_completed(shop, NOTE, job_id)
    assert found.result == {"noted": {"mark": mark}}
    assert found.attempts == 1
    assert found.payload == {"mark": mark}
    assert handled_data.count({"mark": mark}) == 1


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


async def test_a_job_id_is_taken_once(shop: Shop) -> None:
    mark = f"once-{new_id()}"
    for _ in range(3):
        assert await get_context(shop).jobs.enqueue(
            NOTE, JobRequest({"mark": mark}, id=mark), JobRequest({"mark": mark}, id=mark)
        ) == [
            mark,
            mark,
        ]
    await wait_until_completed(shop, NOTE, mark)
    assert await get_context(shop).jobs.enqueue(NOTE, JobRequest({"mark": mark}, id=mark)) == [mark]
    await asyncio.gather(
        *(
            wait_until_completed(shop, NOTE, job)
            for job in await get_context(shop).jobs.enqueue(NOTE, JobRequest("after"))
        )
    )
    assert handled_data.count({"mark": mark}) == 1


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


async def test_a_bulk_of_jobs_is_added_and_run(shop: Shop) -> None:
    ids = await get_context(shop).jobs.enqueue(NOTE, *(JobRequest({"bulk": number}) for number in range(1200)))
    assert len(set(ids)) == 1200

    async def has_run_all() -> bool:
        return sum(isinstance(data, dict) and "bulk" in data for data in handled_data) == 1200

    await wait_until(has_run_all, seconds=30)


async def test_equal_hints_of_a_moment_are_one_job(shop: Shop) -> None:
    mark = f"gate-{new_id()}"
    GATES[mark] = asyncio.Event()
    GATES[mark].set()
    for _ in range(50):
        get_context(shop).jobs.enqueue_soon(GATE, JobRequest(mark))

    async def has_run() -> bool:
        return mark in handled_data

    await wait_until(has_run)
    await get_context(shop).jobs.flush()
    assert handled_data.count(mark) == 1


async def test_a_failing_job_is_tried_again_later_and_later_and_then_listed_as_failed(shop: Shop) -> None:
    mark = {"fails": 2, "mark": str(new_id())}
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest(mark))
    found = await wait_until_completed(shop, NOTE, job_id)
    assert found.attempts == 3
    assert handled_data.count(mark) == 3
    assert found.started_at is not None
    assert found.started_at - found.created_at > timedelta(seconds=0.1 + 0.2 - 0.01)

    mark = {"fails": 9, "mark": str(new_id())}
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest(mark))
    found = await wait_for_state(shop, NOTE, job_id, "failed")
    assert found.reason == "ValueError: attempt 3 of order 0198c5a1-0000-7000-8000-000000000000"
    assert found.attempts == 3
    assert found.cause == "ValueError: attempt <n> of order <id>"
    assert found.id in {one.id for one in await admin.list_failed_jobs(shop.process.jobs)}
    assert await admin.retry_jobs(shop.process.jobs, [found.id]) == 1

    async def is_retried() -> bool:
        return handled_data.count(mark) == 6

    await wait_until(is_retried)
    await wait_for_state(shop, NOTE, job_id, "failed")


async def test_what_can_never_work_fails_at_once(shop: Shop) -> None:
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"rejects": True}))
    found = await wait_for_state(shop, NOTE, job_id, "failed")
    assert found.attempts == 1
    assert found.reason == "Reject: this can't work"


async def test_trouble_of_the_infrastructure_costs_no_attempt(shop: Shop) -> None:
    mark = {"away": True, "mark": str(new_id())}
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest(mark))
    found = await wait_until_completed(shop, NOTE, job_id)
    assert found.attempts == 1
    assert handled_data.count(mark) == 2


async def test_progress_is_seen_while_a_job_runs(shop: Shop) -> None:
    mark = f"gate-{new_id()}"
    (job_id,) = await get_context(shop).jobs.enqueue(GATE, JobRequest(mark))
    await wait_for_state(shop, GATE, job_id, "active")

    async def has_progress() -> bool:
        return bool((await get_job_status(shop, GATE, job_id)).progress == {"done": 1, "total": 2})

    await wait_until(has_progress)
    GATES[mark].set()
    assert (await wait_until_completed(shop, GATE, job_id)).result == "through"


async def test_a_job_runs_in_the_trace_and_for_the_request_that_made_it(shop: Shop) -> None:
    trace, request = telemetry.new_traceparent(), str(new_id())
    telemetry.traceparent.set(trace)
    telemetry.request_id.set(request)
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"traced": True}))
    found = await wait_until_completed(shop, NOTE, job_id)
    assert found.trace_id == trace[3:35]
    assert found.request_id == request
    assert found.result == {"trace": trace[3:35], "request": request}


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


async def test_a_job_whose_worker_was_killed_is_given_to_another(backends: Backends, shop: Shop) -> None:
    await shop.process.workers.workers[LEASH].stop(5)
    mark = f"leash-{new_id()}"
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.job_shop", backends.redis_url, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        (job_id,) = await get_context(shop).jobs.enqueue(LEASH, JobRequest(mark))
        assert program.stdout is not None
        assert (await asyncio.wait_for(program.stdout.readline(), 60)).decode().strip() == f"holding {mark}"
        assert (await get_job_status(shop, LEASH, job_id)).state == "active"
    finally:
        program.kill()
        await program.wait()
    assert handled_data.count(mark) == 0
    async with run_demo(backends):
        found = await wait_until_completed(shop, LEASH, job_id)
    assert handled_data.count(mark) == 1
    assert found.attempts == 1


async def test_a_stopping_process_finishes_the_job_in_hand_and_takes_no_other(backends: Backends, shop: Shop) -> None:
    await shop.process.workers.workers[GATE].stop(5)
    first, second = f"gate-{new_id()}", f"gate-{new_id()}"
    async with run_demo(backends) as other:
        a, b = await get_context(other).jobs.enqueue(GATE, JobRequest(first), JobRequest(second))
        await wait_for_state(shop, GATE, a, "active")
        stopping = asyncio.create_task(other.process.stop())

        async def is_stopping() -> bool:
            return bool(other.process.workers.workers[GATE].is_stopping)

        await wait_until(is_stopping)
        GATES.setdefault(first, asyncio.Event()).set()
        await stopping
        assert (await get_job_status(shop, GATE, a)).state == "completed"
        assert (await get_job_status(shop, GATE, b)).state == "waiting"
        assert second not in handled_data


async def test_the_gauges_say_what_is_in_the_queues(shop: Shop) -> None:
    await get_context(shop).jobs.enqueue(NOTE, JobRequest({"mark": "gauge"}, delay=timedelta(hours=1)))
    await shop.process.workers.update_gauges()
    assert metrics.JOB_COUNT.labels(NOTE, "delayed")._value.get() >= 1


async def test_a_failed_job_lies_on_the_failure_desk_and_is_redriven_or_discarded_there(shop: Shop) -> None:
    data = {"fails": 3, "mark": str(new_id()), "card": "4111"}
    again, gone = await get_context(shop).jobs.enqueue(
        NOTE, JobRequest(data), JobRequest({"rejects": True, "mark": str(new_id())})
    )
    for job_id in (again, gone):
        await wait_for_state(shop, NOTE, job_id, "failed")
    dead_letter_service = DeadLetterService("demo", [JobDeadLetters(shop.process.jobs, [NOTE, "demo.never-announced"])])
    listed = {item.message_id: item for item in (await dead_letter_service.get_page(ListRequest(limit=100))).items}
    item = listed[f"{NOTE}:{again}"]
    assert (item.origin, item.subscription, item.attempts, item.redrivable) == ("job", NOTE, 3, True)
    assert item.reason.startswith("ValueError: attempt 3")
    assert item.payload["data"] == {**data, "card": "[masked]"}

    async def ignore_action(*_: object, **__: object) -> None: ...

    result = await dead_letter_service.redrive(Selection(ids=[item.id]), ignore_action)
    assert (result.selected, result.done) == (1, 1)
    await wait_until_run_again(shop, data)
    other = listed[f"{NOTE}:{gone}"]
    assert (
        await dead_letter_service.discard(DiscardRequest(ids=[other.id], reason="can't work"), ignore_action)
    ).done == 1
    assert f"{NOTE}:{gone}" not in {
        found.message_id for found in (await dead_letter_service.get_page(ListRequest(limit=100))).items
    }


async def wait_until_run_again(shop: Shop, data: object) -> None:
    async def has_run_again() -> bool:
        return handled_data.count(data) > 3

    await wait_until(has_run_again)
