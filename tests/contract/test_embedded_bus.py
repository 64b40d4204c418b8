"""The embedded bus keeps the promise of the bus."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from caravan.bus.embedded import EmbeddedBus, routing_regex
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.runtime import BUS, Backends
from tests.contract.bus_contract import BusContract


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
