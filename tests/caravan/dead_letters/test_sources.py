"""The subscriptions of a service are a source: only its own letters are listed, and the bus does what is asked."""

from collections.abc import Sequence
from typing import Any

import pytest

from caravan.bus import DeadLetter, Subscription
from caravan.clock import utc_now
from caravan.dead_letters import DeadLetterSource, SubscriptionDeadLetters
from caravan.messages import Event, Topic


class Noted(Event):
    text: str


NOTED = Topic("noted", owner="kernel", events=(Noted,), key="text", purpose="test")
OURS, OTHERS = Subscription("kernel", NOTED), Subscription("other", NOTED)


class RecordingBus:
    def __init__(self) -> None:
        self.dead_letters = [
            DeadLetter(str(number), reader.name, "noted", "k", b"0123456789", "no", 1, utc_now(), 10)
            for number, reader in enumerate((OURS, OTHERS, OURS, OURS))
        ]

    async def list_dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int, preview: int
    ) -> list[DeadLetter]:
        names = {subscription.name for subscription in subscriptions}
        return [letter for letter in self.dead_letters if letter.subscription in names][:limit]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        return self._remove(dead_letters)

    async def discard(self, dead_letters: Sequence[DeadLetter]) -> int:
        return self._remove(dead_letters)

    def _remove(self, dead_letters: Sequence[DeadLetter]) -> int:
        before = len(self.dead_letters)
        self.dead_letters = [letter for letter in self.dead_letters if letter not in dead_letters]
        return before - len(self.dead_letters)


@pytest.fixture
def bus() -> Any:
    return RecordingBus()


async def test_only_the_letters_of_its_subscriptions_are_listed_up_to_the_limit(bus: Any) -> None:
    source: DeadLetterSource = SubscriptionDeadLetters(bus, [OURS])
    assert source.origin == "subscription"
    assert [letter.id for letter in await source.list_dead_letters(10, 100)] == ["0", "2", "3"]
    assert [letter.id for letter in await source.list_dead_letters(2, 100)] == ["0", "2"]
    assert await SubscriptionDeadLetters(bus, []).list_dead_letters(10, 100) == []


@pytest.mark.parametrize("action", ["redrive", "discard"])
async def test_the_bus_says_how_many_it_moved(bus: Any, action: str) -> None:
    source = SubscriptionDeadLetters(bus, [OURS])
    listed = await source.list_dead_letters(2, 100)
    assert await getattr(source, action)(listed) == 2
    assert await getattr(source, action)(listed) == 0, "somebody else was first"
    assert [letter.id for letter in bus.dead_letters] == ["1", "3"]
