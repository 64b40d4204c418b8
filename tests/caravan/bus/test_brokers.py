"""Kafka and RabbitMQ as one bus: each message, subscription and dead letter goes to its own, and one's trouble stays
one's own.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest

from caravan.bus import DeadLetter, PublishError, PublishFailure, Subscription
from caravan.bus.brokers import BrokerBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import NotDeclared
from caravan.bus.topology import kafka as on_kafka
from caravan.bus.topology import rabbitmq as on_rabbit
from caravan.clock import new_id
from caravan.messages import OutgoingMessage
from tests.caravan.bus.topology.sample import build_sample_topology
from tests.contract.bus_messages import make_queue, make_topic
from tests.support.backends import Broker


async def test_without_the_right_to_declare_it_says_what_is_missing_until_somebody_has_made_it(
    kafka: Broker, vhost: Broker
) -> None:
    channels, readers, desired = build_sample_topology()
    guest = BrokerBus(
        KafkaBus(KafkaServers(kafka.url), "guest"),
        RabbitBus(vhost.url, "guest", management="http://nowhere.invalid"),
        is_owner=False,
    )
    await guest.start()
    try:
        with pytest.raises(NotDeclared, match=f"topic {channels[0].name}") as before:
            await guest.declare_channels(channels, readers)
        assert "topics, queues or exchanges are missing" in str(before.value)
        await on_kafka.apply_topology(KafkaServers(kafka.url), desired)
        with pytest.raises(NotDeclared, match=f"exchange {channels[2].name}"):
            await guest.declare_channels(channels, readers)
        await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)
        await guest.declare_channels(channels, readers)
    finally:
        await guest.close()


class FakeTransport:
    """Takes what it is given; its messages fail where it is told so."""

    def __init__(self, *, is_failing: bool = False) -> None:
        self.is_failing = is_failing
        self.published: list[OutgoingMessage] = []
        self.measured: list[str] = []
        self.redriven: list[str] = []
        self.dead_letters: list[DeadLetter] = []
        self.reachable = {"both": True}

    async def count_dead_letters(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        return {
            subscription.name: sum(letter.subscription == subscription.name for letter in self.dead_letters)
            for subscription in subscriptions
        }

    async def publish(self, messages: Sequence[OutgoingMessage]) -> None:
        if self.is_failing and messages:
            raise PublishError([PublishFailure(message, "unavailable") for message in messages])
        self.published += messages

    async def measure_lag(self, subscriptions: Sequence[Subscription]) -> dict[str, int]:
        self.measured += [subscription.name for subscription in subscriptions]
        return {subscription.name: 1 for subscription in subscriptions}

    async def list_dead_letters(
        self, subscriptions: Sequence[Subscription], *, limit: int, preview: int, key: str | None = None
    ) -> list[DeadLetter]:
        names = {subscription.name for subscription in subscriptions}
        found = [letter for letter in self.dead_letters if letter.subscription in names and key in (None, letter.key)]
        return found[:limit]

    async def redrive(self, dead_letters: Sequence[DeadLetter]) -> int:
        self.redriven += [dead_letter.id for dead_letter in dead_letters]
        return len(dead_letters)

    discard = redrive


def make_bus(kafka: FakeTransport, rabbit: FakeTransport) -> BrokerBus:
    return BrokerBus(cast("KafkaBus", kafka), cast("RabbitBus", rabbit))


def make_dead_letter(id: str, subscription: Subscription, died: int) -> DeadLetter:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=died)
    return DeadLetter(id, subscription.name, subscription.channel, "k", b"{}", "", 1, moment)


async def test_topics_go_to_kafka_and_queues_and_exchanges_to_rabbitmq() -> None:
    kafka, rabbit = FakeTransport(), FakeTransport()
    messages = [
        OutgoingMessage(kind, f"a-{kind}", "", "k", new_id(), b"{}") for kind in ("queue", "topic", "exchange", "topic")
    ]
    await make_bus(kafka, rabbit).publish(messages)
    assert kafka.published == [messages[1], messages[3]]
    assert rabbit.published == [messages[0], messages[2]]


@pytest.mark.parametrize("failing", ["topic", "queue"])
async def test_one_brokers_failures_are_reported_and_the_others_messages_are_published(failing: str) -> None:
    kafka, rabbit = FakeTransport(is_failing=failing == "topic"), FakeTransport(is_failing=failing == "queue")
    topic_message, queue_message = (OutgoingMessage(kind, "c", "", "k", new_id(), b"{}") for kind in ("topic", "queue"))
    with pytest.raises(PublishError) as error:
        await make_bus(kafka, rabbit).publish([topic_message, queue_message])
    failed, published = (topic_message, rabbit.published) if failing == "topic" else (queue_message, kafka.published)
    assert [failure.message for failure in error.value.failures] == [failed]
    assert published == [queue_message if failing == "topic" else topic_message]


async def test_dead_letters_of_both_are_one_list_oldest_first_up_to_the_limit() -> None:
    kafka, rabbit = FakeTransport(), FakeTransport()
    log, tasks = Subscription("reader", make_topic()), Subscription("reader", make_queue())
    kafka.dead_letters = [make_dead_letter(f"t/0/{died}@0", log, died) for died in (1, 4)]
    rabbit.dead_letters = [make_dead_letter(f"m{died}", tasks, died) for died in (2, 3)]
    bus = make_bus(kafka, rabbit)
    found = await bus.list_dead_letters([tasks, log], limit=3)
    assert [letter.id for letter in found] == ["t/0/1@0", "m2", "m3"]
    assert await bus.count_dead_letters([tasks, log]) == {tasks.name: 2, log.name: 2}
    assert bus.reachable == {"both": True}


async def test_a_dead_letter_is_redriven_and_discarded_where_it_lies() -> None:
    kafka, rabbit = FakeTransport(), FakeTransport()
    log, tasks = Subscription("reader", make_topic()), Subscription("reader", make_queue())
    letters = [make_dead_letter("m1", tasks, 0), make_dead_letter("t/0/5@0", log, 0)]
    bus = make_bus(kafka, rabbit)
    assert (await bus.redrive(letters), await bus.discard(letters)) == (2, 2)
    assert (kafka.redriven, rabbit.redriven) == (["t/0/5@0"] * 2, ["m1"] * 2)


async def test_the_lag_of_each_subscription_is_asked_of_its_own_broker() -> None:
    kafka, rabbit = FakeTransport(), FakeTransport()
    log, tasks = Subscription("reader", make_topic()), Subscription("reader", make_queue())
    assert await make_bus(kafka, rabbit).measure_lag([log, tasks]) == {log.name: 1, tasks.name: 1}
    assert (kafka.measured, rabbit.measured) == ([log.name], [tasks.name])
