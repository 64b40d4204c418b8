"""A client whose connecting is cut off, by the end of the process or by a deadline, leaves no connection open behind
it.
"""

import asyncio
import gc
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from caravan.bus import Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import build_topology
from caravan.bus.topology.kafka import observe_objects
from tests.contract.bus_messages import Recorder, make_queue, make_topic
from tests.support.backends import Broker

MILLISECONDS = [*(half / 2 for half in range(40)), *range(20, 120, 10)]
"""So long may the client go on before it is cut off."""


@asynccontextmanager
async def nothing_left_open(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """What the collector finds still open is told by the libraries' destructors, as a warning."""
    found: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: found.append(repr(unraisable.exc_value)))
    asyncio.get_running_loop().set_exception_handler(lambda _, context: found.append(str(context["message"])))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        yield
        await asyncio.sleep(0.05)
        gc.collect()
    assert not found


async def _cut_off(act: Callable[[], Awaitable[Any]], milliseconds: float) -> None:
    acting = asyncio.ensure_future(act())
    await asyncio.sleep(milliseconds / 1000)
    acting.cancel()
    with suppress(asyncio.CancelledError, ConnectionError):
        await acting


@pytest.mark.parametrize("part", ["publish", "consume", "look", "declare"])
async def test_kafka(kafka: Broker, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    source = make_topic()
    subscription = Subscription("reader", source)
    async with nothing_left_open(monkeypatch):
        for milliseconds in MILLISECONDS:
            bus = KafkaBus(KafkaServers(kafka.url), "test")
            acts: dict[str, Callable[[], Awaitable[Any]]] = {
                "publish": bus.start,
                "consume": lambda bus=bus: bus.consume(subscription, Recorder().process_batch),  # type: ignore[misc]
                "look": lambda bus=bus: bus.measure_lag([subscription]),  # type: ignore[misc]
                "declare": lambda: observe_objects(KafkaServers(kafka.url), build_topology([source], [subscription])),
            }
            await _cut_off(acts[part], milliseconds)
            await bus.close()


@pytest.mark.parametrize("part", ["publish", "consume", "look"])
async def test_rabbitmq(rabbitmq: Broker, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    subscription = Subscription("reader", make_queue())
    async with nothing_left_open(monkeypatch):
        for milliseconds in MILLISECONDS:
            bus = RabbitBus(rabbitmq.url, "test")
            acts: dict[str, Callable[[], Awaitable[Any]]] = {
                "publish": bus.start,
                "consume": lambda bus=bus: bus.consume(subscription, Recorder().process_batch),  # type: ignore[misc]
                "look": lambda bus=bus: bus.measure_lag([subscription]),  # type: ignore[misc]
            }
            await _cut_off(acts[part], milliseconds)
            await bus.close()
