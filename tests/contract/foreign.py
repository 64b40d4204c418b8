"""A producer of somebody else's, that keeps to no rule of ours."""

import asyncio
import time

from aiokafka import AIOKafkaProducer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from caravan.messages import OutgoingMessage

FOREIGN_BYTES = 12 * 1024 * 1024


async def send_foreign(servers: str, *messages: OutgoingMessage) -> None:
    """To Kafka, also what our own producer would not send: messages over 1 MiB and without a key."""
    for topic in {message.channel for message in messages}:
        await asyncio.to_thread(raise_size_limit, servers, topic, FOREIGN_BYTES)
    producer = AIOKafkaProducer(bootstrap_servers=servers, max_request_size=FOREIGN_BYTES)
    await producer.start()
    try:
        for message in messages:
            await producer.send_and_wait(message.channel, message.body, key=message.key.encode() or None)
    finally:
        await producer.stop()


def raise_size_limit(servers: str, topic: str, size: int) -> None:
    """Let a topic take messages of this size, as somebody may have set it."""
    admin = AdminClient({"bootstrap.servers": servers})
    entry = ConfigEntry("max.message.bytes", str(size), incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource("topic", topic)
    admin.incremental_alter_configs([ConfigResource("topic", topic, incremental_configs=[entry])])[resource].result(10)
    deadline = time.monotonic() + 10
    while admin.describe_configs([resource])[resource].result(10)["max.message.bytes"].value != str(size):
        assert time.monotonic() < deadline, "the topic's new limit does not show"


def set_back(servers: str, group: str, topic: str) -> None:
    """To the first message, as whoever wants a group to read a topic again does while it is stopped."""
    admin = AdminClient({"bootstrap.servers": servers})
    partitions = [
        TopicPartition(topic, number, 0) for number in admin.list_topics(topic, timeout=10).topics[topic].partitions
    ]
    asked = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)])
    for result in asked.values():
        result.result(10)
