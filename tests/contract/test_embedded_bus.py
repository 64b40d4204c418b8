"""The embedded bus keeps the promise of the bus."""

import pytest

from caravan.bus.embedded import EmbeddedBus
from caravan.runtime import Backends
from tests.contract.bus_contract import BusContract
from tests.support.embedded_bus import open_embedded_bus


class TestEmbeddedBus(BusContract):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus, backends: Backends) -> EmbeddedBus:
        self.open_bus = lambda: open_embedded_bus(backends)
        return embedded_bus
