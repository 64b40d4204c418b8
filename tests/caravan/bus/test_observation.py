"""What is measured of a batch, on every transport under the same names."""

import pytest

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.observation import BatchObserver
from caravan.clock import new_id
from caravan.messages import Event, Topic
from caravan.telemetry import consumer_attributes, metrics


class Seen(Event):
    number: int


BATCH = [IncomingMessage("key", b"body", 1) for _ in range(4)]


def make_subscription() -> Subscription:
    return Subscription("observer", Topic(f"seen-{new_id()}", "observer", (Seen,), "key", "test"))


def count_handled(subscription: Subscription, result: Result) -> float:
    labels = (subscription.service, subscription.channel, result.value)
    return float(metrics.MESSAGES_HANDLED.labels(*labels)._value.get())


async def test_a_batch_counts_with_its_results_and_its_size() -> None:
    subscription = make_subscription()

    async def handle(_: list[IncomingMessage]) -> list[HandlingResult]:
        assert consumer_attributes.get()["messaging.system"] == "postgresql"
        return [DONE, DONE, HandlingResult(Result.RETRY, "no"), HandlingResult(Result.BLOCKED)]

    batch = [*BATCH[:2], BATCH[2]._replace(attempt=2), BATCH[3]._replace(is_redelivered=True)]
    results = await BatchObserver(subscription, "postgresql").wrap_handler(handle)(batch)
    assert metrics.MESSAGES_REDELIVERED.labels("observer", subscription.channel)._value.get() == 2
    assert [each.result for each in results] == [Result.DONE, Result.DONE, Result.RETRY, Result.BLOCKED]
    assert [count_handled(subscription, result) for result in Result] == [2, 1, 0, 1]
    assert metrics.BATCH_SIZE.labels("observer", subscription.channel)._sum.get() == len(BATCH)
    assert not consumer_attributes.get()


async def test_a_batch_that_raises_counts_when_it_comes_again() -> None:
    subscription = make_subscription()

    async def lose_database(_: list[IncomingMessage]) -> list[HandlingResult]:
        raise ConnectionResetError("the database is away")

    with pytest.raises(ConnectionResetError):
        await BatchObserver(subscription, "kafka").wrap_handler(lose_database)(BATCH)
    assert metrics.BATCH_SIZE.labels("observer", subscription.channel)._sum.get() == 0
    assert not consumer_attributes.get()
