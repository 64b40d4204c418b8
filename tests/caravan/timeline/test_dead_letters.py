"""What a service's dead letters tell of a key, whatever the bus is like."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from caravan.bus import DeadLetter, Subscription
from caravan.clock import new_id, utc_now
from caravan.dead_letters import decode_service_name
from caravan.messages import Queue, Topic
from caravan.timeline import ReadSubscription, find_dead_messages
from caravan.timeline import dead_letters as module

TOPIC = ReadSubscription(Subscription("kernel", Topic("blanks", "kernel", (), key="id", purpose="tests")), ("a",))
QUEUE = ReadSubscription(Subscription("kernel", Queue("kernel.tasks", "kernel", (), key="id", purpose="tests")), ("b",))
KEY = new_id()


def make_dead_letter(consumer: ReadSubscription, body: bytes) -> DeadLetter:
    name = consumer.subscription.name
    return DeadLetter("7", name, consumer.subscription.channel, str(KEY), body, "x password=hunter2", 3, utc_now())


class FakeBus:
    def __init__(self, *dead_letters: DeadLetter, error: Exception | None = None, is_slow: bool = False) -> None:
        self.dead_letters, self.error, self.is_slow = dead_letters, error, is_slow

    async def list_dead_letters(self, subscriptions: Sequence[Subscription], *, limit: int, key: str) -> Any:
        if self.error:
            raise self.error
        await asyncio.sleep(60 if self.is_slow else 0)
        names = {subscription.name for subscription in subscriptions}
        return [each for each in self.dead_letters if each.subscription in names and each.key == key][:limit]


async def find_dead(bus: FakeBus, *consumers: ReadSubscription) -> Any:
    return await find_dead_messages(bus, "kernel", consumers, KEY)  # type: ignore[arg-type]


async def test_a_dead_letter_tells_its_message_reason_and_attempts() -> None:
    message_id, cause = new_id(), new_id()
    body = orjson.dumps({"id": str(message_id), "type": "kernel.Blank", "causationid": str(cause)})
    [dead], gaps = await find_dead(FakeBus(make_dead_letter(TOPIC, body)), TOPIC, QUEUE)
    assert gaps == []
    assert (dead.id, dead.type, dead.cause, dead.attempts) == (message_id, "kernel.Blank", cause, 3)
    assert (dead.channel, dead.channel_type, dead.consumer) == ("blanks", "topic", TOPIC.subscription.name)
    assert "hunter2" not in dead.reason
    assert decode_service_name(dead.failure) == "kernel"


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b"{}", b'{"id": 1, "type": "a"}', b'{"id": "no", "type": "a"}'])
async def test_one_that_can_not_be_read_is_told_without_its_message(body: bytes) -> None:
    [dead], gaps = await find_dead(FakeBus(make_dead_letter(QUEUE, body)), TOPIC, QUEUE)
    assert (dead.id, dead.type, dead.cause, dead.channel_type, gaps) == (None, None, None, "queue", [])


@pytest.mark.parametrize("bus", [FakeBus(error=ConnectionError("gone")), FakeBus(is_slow=True)])
async def test_a_bus_that_can_not_be_read_in_time_is_a_gap(bus: FakeBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_SECONDS", 0.05)
    found, [gap] = await find_dead(bus, TOPIC)
    assert (found, gap.source, gap.before) == ([], "dead_letters", None)


async def test_more_than_are_shown_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DEAD_LETTERS_SHOWN", 2)
    found, [gap] = await find_dead(FakeBus(*(make_dead_letter(TOPIC, b"{}") for _ in range(3))), TOPIC)
    assert (len(found), gap.source) == (2, "dead_letters")


async def test_a_service_without_consumers_asks_nobody() -> None:
    assert await find_dead(FakeBus(error=AssertionError())) == ([], [])
