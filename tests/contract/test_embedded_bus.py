"""The embedded bus keeps the promise of the bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from caravan.bus import Subscription
from caravan.bus.embedded import EmbeddedBus, routing_regex
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.runtime import BUS, Backends
from tests.contract.bus_contract import BusContract, Recorder, at_least, consuming, outgoing, topic
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
