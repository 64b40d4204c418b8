"""The embedded bus keeps the promise of the bus."""

import re

import pytest

from caravan.bus.embedded import EmbeddedBus
from caravan.messages import build_routing_regex
from caravan.runtime import Backends
from tests.contract.bus_contract import BusContract
from tests.support.embedded_bus import open_embedded_bus


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus, backends: Backends) -> EmbeddedBus:
        self.open_bus = lambda: open_embedded_bus(backends)
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
    assert bool(re.match(build_routing_regex(pattern), key)) is matches
