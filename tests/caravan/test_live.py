"""Change notifications without a Redis, which they may lose at any time."""

from typing import Any

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


async def test_who_has_left_is_forgotten() -> None:
    redis: Any = LostRedis()
    changes = ChangeNotifications(redis, redis)
    async with changes.listen("orders", "1") as left:
        pass
    async with changes.listen("stock", "1"):
        await changes.publish("orders", ["1"])
    assert not left.is_set()
    assert changes._listeners == {}
