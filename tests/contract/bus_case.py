"""What a transport gives to the tests of the promises of the bus: its bus, another view of it, raw messages."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from caravan.bus import Bus, Subscription
from caravan.messages import (
    OutgoingMessage,
    Queue,
    Topic,
)
from tests.contract.bus_messages import make_queue, make_topic


class BusCase:
    open_bus: Callable[[], AbstractAsyncContextManager[Bus]]
    """Another process's view of the same broker: a bus of its own."""

    channel_kinds: tuple[str, ...] = ("topic", "queue", "exchange")
    """What the transport carries; the cases of others are not its own."""

    longest_key: int = 2_000
    """Bytes of a key that a foreign producer can send."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "channel" in metafunc.fixturenames:
            metafunc.parametrize(
                "channel", [kind for kind in ("topic", "queue") if kind in self.channel_kinds], indirect=True
            )

    @pytest.fixture
    def channel(self, request: pytest.FixtureRequest) -> Topic | Queue:
        return make_topic() if request.param == "topic" else make_queue()

    async def declare_reader(self, bus: Bus, channel: Topic | Queue, service: str = "reader") -> Subscription:
        subscription = Subscription(service, channel, batch=20)
        await bus.declare_channels([channel], [subscription])
        return subscription

    async def send_raw(self, bus: Bus, message: OutgoingMessage) -> None:
        """A transport whose own producer refuses what a foreign one may send has another way."""
        await bus.publish([message])


@asynccontextmanager
async def run_bus(bus: Bus) -> AsyncIterator[Bus]:
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()
        await bus.close()
