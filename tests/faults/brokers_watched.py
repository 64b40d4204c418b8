"""Kafka and RabbitMQ as an onlooker sees them: what waits, what died, and whether every reader of a topic has dealt
with each of its messages.
"""

from collections import defaultdict
from uuid import UUID

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from caravan.bus import Subscription
from caravan.bus.brokers import BrokerBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.messages import Topic
from caravan.runtime import Backends, list_subscriptions
from services.registry import load_services
from tests.faults.invariants import rows

ONLOOKER = "onlooker"
_DEAD_LETTERS_MAX = 10_000


class OnBrokers:
    """The broker's side of the invariants. Each question opens its own connections: the brokers may have died since the
    last.
    """

    def __init__(
        self,
        backends: Backends,
        kafka_url: str,
        rabbitmq_url: str,
        *,
        foreign: bytes | None = None,
        planted_key: str | None = None,
        since: UUID | None = None,
    ) -> None:
        """`foreign`: what marks the messages that the shop did not send, and whose fate is not looked at.

        `planted_key`: begins the keys of messages that may have died.

        `since`: an id made before the shop began. What is older is of another shop, which had these brokers before.
        """
        self._foreign = foreign
        self._planted_key = planted_key
        self._since = since
        self._backends = backends
        self._kafka_url = kafka_url
        self._rabbitmq_url = rabbitmq_url

    async def unread(self) -> int:
        bus = BrokerBus(KafkaBus(KafkaServers(self._kafka_url), ONLOOKER), RabbitBus(self._rabbitmq_url, ONLOOKER))
        await bus.start()
        try:
            return sum((await bus.measure_lag(list_subscriptions(load_services()))).values())
        finally:
            await bus.close()

    async def faults(self) -> list[str]:
        bus = BrokerBus(KafkaBus(KafkaServers(self._kafka_url), ONLOOKER), RabbitBus(self._rabbitmq_url, ONLOOKER))
        await bus.start()
        try:
            dead = await bus.list_dead_letters(list_subscriptions(load_services()), limit=_DEAD_LETTERS_MAX)
        finally:
            await bus.close()
        found = [
            f"dead letter of {dead_letter.subscription}: {dead_letter.reason}"
            for dead_letter in dead
            if self._planted_key is None or not dead_letter.key.startswith(self._planted_key)
        ]
        bodies = await self.messages(
            {s.source for s in list_subscriptions(load_services()) if isinstance(s.source, Topic)}
        )
        found += [
            f"{topic} has two messages {message}"
            for topic, messages in bodies.items()
            for message, all_of_it in messages.items()
            if len(all_of_it) > 1
        ]
        for service in load_services():
            for subscription in list_subscriptions([service]):
                if isinstance(subscription.source, Topic):
                    found += await self._passed_by(
                        service.databases[0].name, subscription, set(bodies[subscription.channel])
                    )
        return found

    async def _passed_by(self, database: str, subscription: Subscription, sent: set[str]) -> list[str]:
        handled = await rows(
            self._backends, database, "SELECT message_id::text FROM inbox WHERE consumer = $1", subscription.name
        )
        lost = sent - {row[0] for row in handled}
        return (
            [f"{subscription.name} never handled {len(lost)} of {len(sent)} messages, such as {sorted(lost)[0]}"]
            if lost
            else []
        )

    async def messages(self, topics: set[Topic]) -> dict[str, dict[str, set[bytes]]]:
        """By topic and message id, the different bodies that are there."""
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._kafka_url, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            partitions = [TopicPartition(topic.name, number) for topic in topics for number in range(topic.partitions)]
            found: dict[str, dict[str, set[bytes]]] = {topic.name: defaultdict(set) for topic in topics}
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            await consumer.seek_to_beginning(*partitions)
            while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
                for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                    for record in records:
                        if self._foreign and self._foreign in record.value[:500]:
                            continue
                        message_id = orjson.loads(record.value)["id"]
                        if self._since is None or UUID(message_id) > self._since:
                            found[partition.topic][message_id].add(record.value)
            return found
        finally:
            await consumer.stop()
