"""Jobs are added in bulk, once per id, in their trace; without Redis whoever waits is told of it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from redis.exceptions import ConnectionError as RedisConnectionError

from caravan import telemetry
from caravan.clock import new_id
from caravan.jobs import Enqueuer, JobRequest, Jobs, JobsUnavailable, enqueue
from caravan.jobs.enqueue import build_options
from tests.support.job_shop import GATE, GATES, NOTE, get_context, handled_data, wait_until_completed
from tests.support.shop import Shop, wait_until
from tests.support.spans import collect_spans

jobs = Jobs("kernel")


@jobs.job("kernel.note-take", attempts=3, backoff_seconds=0.25, keep_completed=7, keep_failed=9, keep_days=2)
async def take_note(_: Any, __: Any) -> None: ...


@jobs.job("kernel.note-gather", debounce_seconds=60)
async def gather_notes(_: Any, __: Any) -> None: ...


class RecordingStore:
    """A Redis of one queue, which may be away."""

    def __init__(self) -> None:
        self.commands: list[list[dict[str, Any]]] = []
        self.error: Exception | None = None

    def get_queue(self, _: str) -> "RecordingStore":
        return self

    async def addBulk(self, added: list[dict[str, Any]]) -> list[Any]:  # noqa: N802 - BullMQ's name
        if self.error is not None:
            raise self.error
        self.commands.append(added)
        return [type("Added", (), {"id": one["opts"].get("jobId", number)})() for number, one in enumerate(added)]

    def list_data(self) -> list[Any]:
        return [one["data"]["data"] for command in self.commands for one in command]


@pytest.fixture
def store() -> RecordingStore:
    return RecordingStore()


@pytest.fixture
def enqueuer(store: Any) -> Enqueuer:
    return Enqueuer(store, jobs)


def test_options_are_the_limits_of_the_type_and_the_wishes_of_the_request() -> None:
    job_type = jobs.job_types["kernel.note-take"]
    assert build_options(job_type, JobRequest()) == {
        "attempts": 3,
        "backoff": {"type": "exponential", "delay": 250},
        "removeOnComplete": {"count": 7, "age": 2 * 86400},
        "removeOnFail": {"count": 9, "age": 2 * 86400},
        "stackTraceLimit": 3,
    }
    options = build_options(job_type, JobRequest(id="a-1", delay=timedelta(seconds=1.5), priority=4, keep="failed"))
    assert (options["jobId"], options["delay"], options["priority"]) == ("a-1", 1500, 4)
    assert options["removeOnComplete"] is True
    assert options["removeOnFail"] == {"count": 9, "age": 2 * 86400}
    assert build_options(job_type, JobRequest(keep="never"))["removeOnFail"] is True
    assert "delay" not in build_options(job_type, JobRequest(delay=timedelta(seconds=-1)))


@pytest.mark.parametrize("job_id", ["", "7", "a:b", "meta", "a b", "x" * 201])
async def test_an_id_that_could_name_another_key_of_redis_is_refused(
    enqueuer: Enqueuer, store: RecordingStore, job_id: str
) -> None:
    with pytest.raises(ValueError, match="the id of a job"):
        await enqueuer.enqueue("kernel.note-take", JobRequest(id=job_id))
    assert store.commands == []


async def test_a_job_carries_its_data_and_on_whose_behalf_it_runs(enqueuer: Enqueuer, store: RecordingStore) -> None:
    trace = telemetry.new_traceparent()
    tokens = telemetry.traceparent.set(trace), telemetry.request_id.set("r"), telemetry.actor.set("customer:1")
    try:
        await enqueuer.enqueue("kernel.note-take", JobRequest({"a": 1}))
    finally:
        telemetry.traceparent.reset(tokens[0])
        telemetry.request_id.reset(tokens[1])
        telemetry.actor.reset(tokens[2])
    assert store.commands[0][0]["data"] == {
        "data": {"a": 1},
        "traceparent": trace,
        "request_id": "r",
        "actor": "customer:1",
    }


async def test_one_job_for_several_is_linked_to_the_traces_of_all(enqueuer: Enqueuer, store: RecordingStore) -> None:
    with collect_spans():
        traces = []
        for _ in range(3):
            with telemetry.start_span("request", SpanKind.SERVER, parent=telemetry.new_traceparent()):
                traces.append(telemetry.traceparent.get())
                enqueuer.enqueue_soon("kernel.note-gather")
        await enqueuer.flush()
    ((job,),) = store.commands
    assert [job["data"]["traceparent"], *job["data"]["links"]] == traces


async def test_a_million_is_not_one_command(enqueuer: Enqueuer, store: RecordingStore) -> None:
    ids = await enqueuer.enqueue("kernel.note-take", *(JobRequest(number) for number in range(1201)))
    assert [len(command) for command in store.commands] == [500, 500, 201]
    assert store.list_data() == [*range(1201)]
    assert len(ids) == 1201


async def test_without_redis_who_waits_is_told_and_who_does_not_wait_goes_on(
    enqueuer: Enqueuer, store: RecordingStore
) -> None:
    store.error = RedisConnectionError("no redis")
    with pytest.raises(JobsUnavailable, match=r"kernel\.note-take: ConnectionError: no redis"):
        await enqueuer.enqueue("kernel.note-take")
    enqueuer.enqueue_soon("kernel.note-take", JobRequest("lost"))
    await enqueuer.flush()
    store.error = None
    enqueuer.enqueue_soon("kernel.note-take", JobRequest("next"))
    await enqueuer.flush()
    assert store.list_data() == ["next"]


async def test_what_is_soon_is_one_command_of_unlike_jobs_and_a_flush_does_not_wait(
    enqueuer: Enqueuer, store: RecordingStore
) -> None:
    for data in ("a", "b", "a", "c", "b"):
        enqueuer.enqueue_soon("kernel.note-gather", JobRequest(data))
    assert store.commands == []
    async with asyncio.timeout(10):
        await enqueuer.flush()
    assert [len(command) for command in store.commands] == [3]
    assert store.list_data() == ["a", "b", "c"]


async def test_what_waits_in_memory_is_bounded(
    enqueuer: Enqueuer, store: RecordingStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enqueue, "_PENDING_MAX", 10)
    for number in range(30):
        enqueuer.enqueue_soon("kernel.note-gather", JobRequest(number))
    await enqueuer.flush()
    assert store.list_data() == [*range(10)]


async def test_a_job_that_is_not_declared_here_is_refused_at_once(enqueuer: Enqueuer, store: Any) -> None:
    expected = r"no job 'kernel\.nothing-do' is declared here; there are kernel\.note-take, kernel\.note-gather"
    with pytest.raises(LookupError, match=expected):
        await enqueuer.enqueue("kernel.nothing-do")
    with pytest.raises(LookupError, match="there are none"):
        Enqueuer(store, None).enqueue_soon("kernel.nothing-do")


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
