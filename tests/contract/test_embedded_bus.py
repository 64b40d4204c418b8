"""The embedded bus keeps the promise of the bus."""

import pytest

from caravan.bus.embedded import EmbeddedBus, routing_regex
from tests.contract.bus_contract import BusContract


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus) -> EmbeddedBus:
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
