"""A bus that publishes every message five times, and the wait until all that a scenario caused has come to rest."""

from collections.abc import Sequence
from typing import Any

from caravan.bus import Bus
from caravan.messages import OutgoingMessage
from caravan.runtime import Backends
from tests.faults.invariants import at_rest
from tests.support.scenario import ShopScenario
from tests.support.shop import wait_until

TIMES = 5


class Repeating:
    """A bus that publishes each batch five times, one whole after the other: what was first comes again after what was
    last.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        await self._bus.publish([message for _ in range(TIMES) for message in messages])


async def wait_for_rest(scenario: ShopScenario, backends: Backends) -> None:
    await scenario.wait_for_ends()

    async def is_at_rest() -> bool:
        left = await at_rest(backends)
        assert left == "", left
        return True

    await wait_until(is_at_rest, seconds=60, every=0.1)
