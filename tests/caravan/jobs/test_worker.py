"""A worker on a real Redis: each job runs with its limits, is tried again, and outlives its worker."""

import asyncio
import sys
from datetime import timedelta

from opentelemetry.trace import SpanKind

from caravan import telemetry
from caravan.clock import new_id
from caravan.jobs import JobRequest, admin
from caravan.runtime import Backends
from tests.support.faults import switch_faults
from tests.support.job_shop import (
    GATE,
    GATES,
    LEASH,
    NOTE,
    get_context,
    get_job_status,
    handled_data,
    run_demo,
    wait_for_state,
    wait_until_completed,
)
from tests.support.program import ROOT
from tests.support.shop import Shop, wait_until
from tests.support.spans import build_node, collect_spans, get_id


async def test_a_job_runs_once_with_its_data_and_keeps_its_result(shop: Shop) -> None:
    mark = str(new_id())
    (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"mark": mark}))
    found = await wait_until_completed(shop, NOTE, job_id)
    assert found.result == {"noted": {"mark": mark}}
    assert found.attempts == 1
    assert found.payload == {"mark": mark}
    assert handled_data.count({"mark": mark}) == 1


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


async def test_attempts_at_a_job_are_in_its_trace_and_linked_to_the_first(shop: Shop) -> None:
    with collect_spans() as spans:
        with telemetry.start_span("request", SpanKind.SERVER, parent=telemetry.new_traceparent()):
            (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest({"fails": 2, "mark": str(new_id())}))
        await wait_until_completed(shop, NOTE, job_id)

        async def has_ended() -> bool:
            return len([each for each in spans.all if each.name == f"process {NOTE}"]) >= 3

        await wait_until(has_ended)
    first, second, third = [span for span in spans.list_consumers() if span.name == f"process {NOTE}"]
    (request,) = [span for span in spans.all if span.name == "request"]
    assert {build_node(span).parent for span in (first, second, third)} == {get_id(request)}
    assert [build_node(span).links for span in (first, second, third)] == [
        (),
        (get_id(first),),
        (get_id(first),),
    ]
    assert [span.attributes["caravan.message.attempt"] for span in (first, second, third)] == [1, 2, 3]
    assert spans.build_graph().list_orphans() == []


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


async def test_a_fault_fails_a_job_for_good(shop: Shop) -> None:
    mark = {"mark": str(new_id())}
    with switch_faults(f"job-failing:{NOTE}"):
        (job_id,) = await get_context(shop).jobs.enqueue(NOTE, JobRequest(mark))
        found = await wait_for_state(shop, NOTE, job_id, "failed")
    assert (found.attempts, found.reason) == (1, "Reject: the fault job-failing is on")
    assert mark not in handled_data
