"""The embedded bus keeps the promise of the bus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from caravan.bus import Subscription
from caravan.bus.embedded import EmbeddedBus, reader
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.messages import Queue, Topic, build_routing_regex
from caravan.runtime import BUS, Backends
from caravan.telemetry.metrics import STATEMENTS
from tests.contract.bus_contract import (
    BusContract,
    Recorder,
    has_at_least,
    make_outgoing,
    make_queue,
    make_topic,
    run_consumers,
)
from tests.support.shop import wait_until


@asynccontextmanager
async def open_bus_elsewhere(backends: Backends) -> AsyncIterator[EmbeddedBus]:
    """As another process has it."""
    database = await Database.open(BUS, backends.get_database_url(BUS), size=6)
    leadership = Leadership(backends.get_database_url(BUS), BUS)
    bus = EmbeddedBus(database, leadership)
    await bus.start()
    yield bus
    await leadership.close()
    await database.close()


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus, backends: Backends) -> EmbeddedBus:
        self.open_bus = lambda: open_bus_elsewhere(backends)
        return embedded_bus


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("order.*", "order.created", True),
        ("order.*", "order.created.now", False),
        ("order.#", "order.created.now", True),
        ("#", "a.b", True),
        ("order.created", "orderxcreated", False),
    ],
)
def test_routing_patterns_match_as_in_amqp(pattern: str, key: str, matches: bool) -> None:
    import re

    assert bool(re.match(build_routing_regex(pattern), key)) is matches


async def test_a_reader_that_has_left_makes_room_for_another_while_its_bus_stays(
    embedded_bus: EmbeddedBus, backends: Backends
) -> None:
    channel, first, second = make_topic(), Recorder(), Recorder()
    reader = Subscription("reader", channel)
    async with open_bus_elsewhere(backends) as other:
        await embedded_bus.declare_channels([channel], [reader])
        async with run_consumers(embedded_bus, (reader, first.process_batch)):
            await embedded_bus.publish([make_outgoing(channel, 0, "k")])
            await wait_until(lambda: has_at_least(first, 1))
        async with run_consumers(other, (reader, second.process_batch)):
            await embedded_bus.publish([make_outgoing(channel, 1, "k")])
            await wait_until(lambda: has_at_least(second, 1))


def _count_statements() -> float:
    return next(
        s.value
        for m in STATEMENTS.collect()
        for s in m.samples
        if s.name.endswith("_total") and s.labels["service"] == BUS
    )


@pytest.mark.parametrize("make", [make_topic, make_queue])
async def test_one_statement_acknowledges_a_message_and_reads_the_next(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "UNACKNOWLEDGED_SECONDS", 60.0)
    channel, recorder, messages = make(), Recorder(), 20
    subscription = Subscription("reader", channel)
    await embedded_bus.declare_channels([channel], [subscription])
    async with run_consumers(embedded_bus, (subscription, recorder.process_batch)):
        await embedded_bus.publish([make_outgoing(channel, 0, "k")])
        await wait_until(lambda: has_at_least(recorder, 1))
        before = _count_statements()
        for number in range(1, messages + 1):
            await embedded_bus.publish([make_outgoing(channel, number, "k")])
            await wait_until(lambda count=number + 1: has_at_least(recorder, count))  # type: ignore[misc]
        assert _count_statements() - before <= 2 * messages + 2, "one to publish and one to read each"


@pytest.mark.parametrize("make", [make_topic, make_queue])
async def test_the_last_message_is_acknowledged_though_nothing_comes_after_it(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus
) -> None:
    channel, recorder = make(), Recorder()
    subscription = Subscription("reader", channel)
    await embedded_bus.declare_channels([channel], [subscription])
    async with run_consumers(embedded_bus, (subscription, recorder.process_batch)):
        await embedded_bus.publish([make_outgoing(channel, 0, "k")])
        await wait_until(lambda: has_at_least(recorder, 1))
        await wait_until(lambda: _has_no_lag(embedded_bus, subscription))


async def _has_no_lag(bus: EmbeddedBus, subscription: Subscription) -> bool:
    return (await bus.measure_lag([subscription]))[subscription.name] == 0
