"""The embedded bus keeps the promise of the bus."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from caravan.bus import Subscription
from caravan.bus.embedded import EmbeddedBus, reader, routing_regex
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.messages import Queue, Topic
from caravan.runtime import BUS, Backends
from caravan.telemetry import STATEMENTS
from tests.contract.bus_contract import BusContract, Recorder, at_least, consuming, outgoing, queue, topic
from tests.shop import until


@asynccontextmanager
async def opened(backends: Backends) -> AsyncIterator[EmbeddedBus]:
    """As another process has it."""
    database = await Database.open(BUS, backends.database(BUS), size=6)
    leadership = Leadership(backends.database(BUS), BUS)
    made = EmbeddedBus(database, leadership)
    await made.start()
    yield made
    await leadership.close()
    await database.close()


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus, backends: Backends) -> EmbeddedBus:
        self.open_bus = lambda: opened(backends)
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

    assert bool(re.match(routing_regex(pattern), key)) is matches


async def test_a_reader_that_has_left_makes_room_for_another_while_its_bus_stays(embedded_bus: EmbeddedBus, backends: Backends) -> None:
    work, first, second = topic(), Recorder(), Recorder()
    reader = Subscription("reader", work)
    async with opened(backends) as other:
        await embedded_bus.declare([work], [reader])
        async with consuming(embedded_bus, (reader, first.process)):
            await embedded_bus.publish([outgoing(work, 0, "k")])
            await until(lambda: at_least(first, 1))
        async with consuming(other, (reader, second.process)):
            await embedded_bus.publish([outgoing(work, 1, "k")])
            await until(lambda: at_least(second, 1))


def _statements() -> float:
    return next(s.value for m in STATEMENTS.collect() for s in m.samples if s.name.endswith("_total") and s.labels["service"] == BUS)


@pytest.mark.parametrize("make", [topic, queue])
async def test_one_statement_acknowledges_a_message_and_reads_the_next(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "UNACKNOWLEDGED_SECONDS", 60.0)
    work, seen, messages = make(), Recorder(), 20
    subscription = Subscription("reader", work)
    await embedded_bus.declare([work], [subscription])
    async with consuming(embedded_bus, (subscription, seen.process)):
        await embedded_bus.publish([outgoing(work, 0, "k")])
        await until(lambda: at_least(seen, 1))
        before = _statements()
        for number in range(1, messages + 1):
            await embedded_bus.publish([outgoing(work, number, "k")])
            await until(lambda count=number + 1: at_least(seen, count))  # type: ignore[misc]
        assert _statements() - before <= 2 * messages + 2, "one to publish and one to read each"


@pytest.mark.parametrize("make", [topic, queue])
async def test_the_last_message_is_acknowledged_though_nothing_comes_after_it(
    make: Callable[[], Topic | Queue], embedded_bus: EmbeddedBus
) -> None:
    work, seen = make(), Recorder()
    subscription = Subscription("reader", work)
    await embedded_bus.declare([work], [subscription])
    async with consuming(embedded_bus, (subscription, seen.process)):
        await embedded_bus.publish([outgoing(work, 0, "k")])
        await until(lambda: at_least(seen, 1))
        await until(lambda: _nothing_waits(embedded_bus, subscription))


async def _nothing_waits(bus: EmbeddedBus, subscription: Subscription) -> bool:
    return (await bus.lag([subscription]))[subscription.name] == 0
