"""One connection, or one resource, that is slow or breaks a pass: what becomes of the others."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from caravan_operator.backends.broker import BrokerUnavailable, limit_seconds
from caravan_operator.controller import connection_reconciler, reconciler
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connection_reconciler import ConnectionReconciler
from caravan_operator.controller.connections import BrokerClient, Connections
from caravan_operator.controller.lease import LeaseLost
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.reconciler import Reconciler
from caravan_operator.controller.reporter import Reporter
from caravan_operator.controller.stages.admit import Admission
from caravan_operator.controller.workers import Workers
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import CONNECTION_READY, Condition
from caravan_operator.status.reasons import Reason
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.resources import make_resource
from tests.support.shop import wait_until

GROUP, OTHER = Key("KafkaConnection", "shop", "broker"), Key("KafkaConnection", "shop", "hostile")


def topic(number: int) -> Key:
    return Key("KafkaTopic", "shop", f"t{number}")


async def test_a_connection_whose_broker_never_answers_holds_up_no_other() -> None:
    cache, queue = ResourceCache(), WorkQueue()
    hangs = asyncio.Event()
    done: list[Key] = []

    async def run(group: Key, keys: Sequence[Key]) -> None:
        if group == OTHER:
            hangs.set()
            await asyncio.Event().wait()
        done.extend(keys)

    workers = Workers(cache, queue, run, sweep_seconds=3600)
    workers_task = asyncio.create_task(workers.run())
    try:
        queue.add(topic(0), OTHER, Priority.NEW)
        await asyncio.wait_for(hangs.wait(), 10)
        for number in range(1, 50):
            queue.add(topic(number), GROUP, Priority.NEW)

        async def all_done() -> bool:
            return {*done} == {topic(number) for number in range(1, 50)}

        await wait_until(all_done)
        assert workers.get_oldest_batch_age() > 0, "and the probe sees how long it has taken"
    finally:
        workers_task.cancel()
        await asyncio.gather(workers_task, return_exceptions=True)


async def test_a_connection_whose_passes_break_holds_up_no_other() -> None:
    cache, queue = ResourceCache(), WorkQueue()
    tried: list[Sequence[Key]] = []
    done: list[Key] = []

    async def run(group: Key, keys: Sequence[Key]) -> None:
        if group == OTHER:
            tried.append(keys)
            raise RuntimeError("nobody foresaw it")
        done.extend(keys)

    workers_task = asyncio.create_task(Workers(cache, queue, run, sweep_seconds=3600).run())
    try:
        queue.add(topic(0), OTHER, Priority.NEW)
        queue.add(topic(1), GROUP, Priority.NEW)

        async def both() -> bool:
            return done == [topic(1)] and len(tried) >= 2

        await wait_until(both)
    finally:
        workers_task.cancel()
        await asyncio.gather(workers_task, return_exceptions=True)


class Breaking(Reconciler):
    """A pass over a batch that holds a bad key breaks."""

    def __init__(self, queue: Any, bad: set[Key], error: type[Exception] = RuntimeError) -> None:
        unused: Any = None  # the pass that would need them is another one
        reporter = Reporter(unused, unused)
        super().__init__(ResourceCache(), queue, unused, unused, unused, reporter, unused, unused)
        self.bad, self.error = bad, error
        self.passed: list[Key] = []
        self.passes = 0

    async def _reconcile_batch(self, group: Key, keys: Sequence[Key]) -> None:
        self.passes += 1
        if self.bad & {*keys}:
            raise self.error("nobody foresaw it")
        self.passed += keys


class Retried:
    def __init__(self) -> None:
        self.keys: list[Key] = []

    def retry(self, key: Key, group: Key) -> float:
        self.keys.append(key)
        return 1.0


@given(st.integers(1, 60).flatmap(lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=3))))
def test_a_resource_that_breaks_a_pass_fails_alone(case: tuple[int, set[int]]) -> None:
    size, bad = case
    retried = Retried()
    broken = Breaking(retried, {topic(number) for number in bad})
    asyncio.run(broken.run(GROUP, [topic(number) for number in range(size)]))
    assert sorted(broken.passed) == sorted(topic(number) for number in range(size) if number not in bad)
    assert sorted(retried.keys) == sorted(broken.bad)
    assert broken.passes <= 1 + 2 * len(bad) * size.bit_length()


async def test_a_lost_lease_is_not_tried_in_halves() -> None:
    broken = Breaking(Retried(), {topic(0)}, LeaseLost)
    with pytest.raises(LeaseLost):
        await broken.run(GROUP, [topic(0), topic(1)])
    assert broken.passes == 1
    assert broken.passed == []


async def test_a_deadline_is_a_reason_in_our_own_words() -> None:
    with pytest.raises(BrokerUnavailable, match="too slow") as late:
        async with limit_seconds(0.01):
            await asyncio.Event().wait()
    assert late.value.reason is Reason.UNREACHABLE


class Hanging:
    """A broker that is asked and never answers."""

    async def read_states(self, *_: Any, **__: Any) -> list[Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def check_health(self) -> dict[str, Any]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def close(self) -> None: ...


class AlwaysOpen(Connections):
    async def open_client(self, connection: Resource) -> BrokerClient:
        return BrokerClient(Hanging(), "hash", ("uid", 1), 0.0)  # type: ignore[arg-type]


class Written:
    def __init__(self) -> None:
        self.conditions: dict[str, list[Condition]] = {}

    async def write_status(self, resource: Resource, conditions: Any, *_: Any) -> Resource:
        self.conditions[resource.key.name] = [*conditions]
        return resource


class Nothing:
    async def run(self, *_: Any) -> None: ...

    async def get_labels(self, *_: Any) -> dict[str, str]:
        return {}


@pytest.mark.parametrize("checked", [True, False])
async def test_a_pass_that_takes_too_long_ends_with_a_status(checked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if checked:
        monkeypatch.setattr(connection_reconciler, "MAX_CHECK_SECONDS", 0.02)
    else:
        monkeypatch.setattr(reconciler, "MAX_PASS_SECONDS", 0.02)
    now = 0.0
    cache, queue, written = ResourceCache(), WorkQueue(lambda: now), Written()
    connection = make_resource("KafkaConnection", "broker", bootstrapServers=["k:9092"])
    topic_resource = make_resource(name="t0")
    for each in (connection, topic_resource):
        cache.put(each)
    nothing: Any = Nothing()
    connections = AlwaysOpen(nothing, lambda: None)
    reporter = Reporter(nothing, written)  # type: ignore[arg-type]  # it keeps what would be written
    subject = Reconciler(
        cache,
        queue,
        connections,
        Admission(cache, nothing),
        nothing,
        reporter,
        ConnectionReconciler(cache, queue, connections, reporter),
        nothing,
    )
    await asyncio.wait_for(subject.run(connection.key, [connection.key] if checked else [topic_resource.key]), 10)
    (ready,) = [
        condition
        for condition in written.conditions["broker" if checked else "t0"]
        if condition.type == CONNECTION_READY
    ]
    assert ready.reason is Reason.UNREACHABLE
    assert "too slow" in ready.message
    now = 60.0
    assert queue.take_due_keys(connection.key, 10, 10) == [connection.key], "it is tried again"
