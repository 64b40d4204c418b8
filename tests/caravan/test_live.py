"""Change notifications without a Redis, which they may lose at any time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from redis.exceptions import ConnectionError as RedisConnectionError

from caravan.live import ChangeNotifications


class LostRedis:
    async def publish(self, channel: str, body: bytes) -> None:
        raise RedisConnectionError(f"{channel} {body!r}")


async def test_a_reader_of_the_same_process_is_woken_without_redis() -> None:
    redis: Any = LostRedis()
    changes = ChangeNotifications(redis, redis)
    async with changes.listen("orders", "1") as changed, changes.listen("orders", "2") as other:
        await changes.publish("orders", ["1", "3"])
        assert changed.is_set()
        assert not other.is_set()


class HeardRedis:
    """Takes what is published, and hands it back to the process that listens."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def publish(self, channel: str, body: bytes) -> None:
        self.messages.put_nowait({"type": "pmessage", "channel": channel.encode(), "data": body})

    @asynccontextmanager
    async def pubsub(self) -> AsyncIterator["HeardRedis"]:
        yield self

    async def psubscribe(self, pattern: str) -> None:
        pass

    async def listen(self) -> AsyncIterator[dict[str, Any]]:
        while True:
            yield await self.messages.get()


async def test_a_listener_is_called_once_for_each_change() -> None:
    heard: list[list[str]] = []
    lost, redis = cast(Any, LostRedis()), cast(Any, HeardRedis())
    changes = ChangeNotifications(lost, redis)
    changes.add_listener("orders", lambda keys: heard.append(list(keys)))
    await changes.publish("orders", ["1"])
    assert heard == [["1"]], "without Redis"
    changes = ChangeNotifications(redis, redis)
    changes.add_listener("orders", lambda keys: heard.append(list(keys)))
    listener = asyncio.create_task(changes.run())
    async with changes.listen("orders", "2") as changed:
        await changes.publish("orders", ["2"])
        assert changed.is_set()
    await asyncio.sleep(0.01)
    assert heard == [["1"], ["2"]]
    listener.cancel()
    with suppress(asyncio.CancelledError):
        await listener


async def test_who_has_left_is_forgotten() -> None:
    redis: Any = LostRedis()
    changes = ChangeNotifications(redis, redis)
    async with changes.listen("orders", "1") as left:
        pass
    async with changes.listen("stock", "1"):
        await changes.publish("orders", ["1"])
    assert not left.is_set()
    assert changes._listeners == {}
