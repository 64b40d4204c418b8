"""Reads what Kafka and RabbitMQ were given, and gives it to them again, as it was."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka.admin import AdminClient

from caravan.bus.kafka_servers import KafkaServers
from caravan.messages import Topic
from caravan.runtime import list_subscriptions
from services.registry import load_services
from tests.faults.prove.brokers import Brokers
from tests.faults.prove.wires import BROKEN
from tests.support.shop import wait_until

CAPTURED, CAPTURED_MAX = 20, 100
CAPTURE_SECONDS = 40.0
ASK_SECONDS = 10.0
TRACE = "proof.trace"
"""The queue in which RabbitMQ's tracer leaves a copy of each message that is published."""
Record = tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Topic, key, body and headers."""


async def read_records(kafka_url: str, count: int) -> list[Record]:
    """The newest of all topics that anybody reads; what was planted is left out."""
    sources = {each.source for each in list_subscriptions(load_services()) if isinstance(each.source, Topic)}
    partitions = [TopicPartition(topic.name, number) for topic in sources for number in range(topic.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=kafka_url, enable_auto_commit=False)
    await consumer.start()
    try:
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        of_each = count // len(partitions) + 1
        for partition in partitions:
            consumer.seek(partition, max(0, ends[partition] - of_each))
        found = []
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record for record in records if record.value != BROKEN]
    finally:
        await consumer.stop()
    found.sort(key=lambda record: record.timestamp)
    return [(record.topic, record.key, record.value, list(record.headers)) for record in found]


async def publish_records(kafka_url: str, records: Sequence[Record]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka_url)
    await producer.start()
    try:
        await asyncio.gather(
            *[
                await producer.send(topic, body, key=key, headers=headers or [("content-type", b"application/json")])
                for topic, key, body, headers in records
            ]
        )
    finally:
        await producer.stop()


async def count_members(kafka_url: str, groups: Sequence[str]) -> list[int]:
    """Of each of these consumer groups."""
    # Not aiokafka's: it asks Kafka 4 in a way that is no longer answered.
    admin = AdminClient(KafkaServers(kafka_url).build_librdkafka_settings())
    # Its types say that an answer is a mapping; it is a description.
    found: dict[str, Any] = admin.describe_consumer_groups(list(groups), request_timeout=ASK_SECONDS)
    answers = [await asyncio.wrap_future(found[group]) for group in groups]
    return [len(answer.members) for answer in answers]


async def capture_commands(brokers: Brokers) -> list[dict[str, Any]]:
    """Some of those that are sent from now on, with the queue, properties and body of each; they arrive as well."""
    queues = {each.name for each in list_subscriptions(load_services()) if not isinstance(each.source, Topic)}
    found: list[dict[str, Any]] = []

    async def has_enough() -> bool:
        copies = await brokers.ask_rabbitmq(
            "POST",
            f"/api/queues/%2F/{TRACE}/get",
            {"count": CAPTURED_MAX, "ackmode": "ack_requeue_false", "encoding": "base64"},
        )
        for copy in copies:
            headers = copy["properties"]["headers"]
            if headers["exchange_name"] == "" and headers["routing_keys"][0] in queues:
                body = base64.b64decode(copy["payload"])
                found.append({"queue": headers["routing_keys"][0], "properties": headers["properties"], "body": body})
        return len(found) >= CAPTURED

    await brokers.ask_rabbitmq("PUT", f"/api/queues/%2F/{TRACE}", {"durable": True, "arguments": {"x-max-length": 500}})
    binding = f"/api/bindings/%2F/e/amq.rabbitmq.trace/q/{TRACE}"
    await brokers.ask_rabbitmq("POST", binding, {"routing_key": "publish.#"})
    await brokers.ask_rabbitmq("PUT", "/api/vhosts/%2F", {"tracing": True})
    try:
        await wait_until(has_enough, seconds=CAPTURE_SECONDS, every=0.5)
    finally:
        await brokers.ask_rabbitmq("PUT", "/api/vhosts/%2F", {"tracing": False})
        await brokers.ask_rabbitmq("DELETE", f"/api/queues/%2F/{TRACE}")
    return found


async def publish_commands(brokers: Brokers, commands: Sequence[dict[str, Any]]) -> None:
    for command in commands:
        answer = await brokers.ask_rabbitmq(
            "POST",
            "/api/exchanges/%2F/amq.default/publish",
            {
                "routing_key": command["queue"],
                "properties": command["properties"],
                "payload": base64.b64encode(command["body"]).decode(),
                "payload_encoding": "base64",
            },
        )
        assert answer["routed"], f"{command['queue']} is not there"
