"""The embedded bus keeps the promise of the bus."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caravan.bus.embedded import EmbeddedBus, routing_regex
from caravan.database import Database
from caravan.leadership import Leadership
from caravan.migrations import provision, upgrade
from caravan.runtime import BUS, BUS_VERSIONS, Backends
from tests.contract.bus_contract import BusContract


@pytest.fixture
async def bus(backends: Backends) -> AsyncIterator[EmbeddedBus]:
    await provision(backends.database_url, [BUS], backends.secret)
    await upgrade(BUS, backends.database(BUS), [Path(BUS_VERSIONS)])
    database = await Database.open(BUS, backends.database(BUS), size=6)
    leadership = Leadership(backends.database(BUS), BUS)
    made = EmbeddedBus(database, leadership)
    await made.start()
    yield made
    await leadership.close()
    await database.close()


class TestEmbeddedBus(BusContract):
    pass


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
