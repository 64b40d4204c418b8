"""Reading topics of the embedded bus from their beginning, and where a new reader begins."""

from datetime import timedelta

from caravan.bus import NEW_READER_AGE, Subscription
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.embedded.log import EmbeddedTopicLog
from caravan.clock import new_id, utc_now
from caravan.messages import OutgoingMessage, Topic, encode_message
from tests.support.deliveries import Blank


def declare_topic() -> Topic:
    return Topic(f"log-{new_id()}", "kernel", (Blank,), key="id", purpose="tests")


def build_message(topic: Topic) -> OutgoingMessage:
    return encode_message(
        Blank(), topic, key=str(new_id()), source="kernel", time=utc_now(), traceparent=None, actor=None
    )


async def test_every_message_is_read_once_and_then_what_has_come_since(embedded_bus: EmbeddedBus) -> None:
    topics = [declare_topic(), declare_topic()]
    messages = [build_message(topic) for topic in topics for _ in range(5)]
    await embedded_bus.publish([*messages, build_message(declare_topic())])
    log = EmbeddedTopicLog(embedded_bus.database, [topic.name for topic in topics])
    found = []
    while batch := await log.read_messages(4):
        assert len(batch) <= 4
        found += batch
    assert sorted(message.body for message in found) == sorted(message.body for message in messages)
    late = build_message(topics[0])
    await embedded_bus.publish([late])
    assert [message.body for message in await log.read_messages(4)] == [late.body]


async def test_a_new_reader_skips_what_the_inbox_has_forgotten(embedded_bus: EmbeddedBus) -> None:
    topic = declare_topic()
    await embedded_bus.publish([build_message(topic), build_message(topic), build_message(topic)])
    positions = [
        row[0]
        for row in await embedded_bus.database.fetch(
            "SELECT position FROM topic_log WHERE topic = $1 ORDER BY position", topic.name
        )
    ]
    await embedded_bus.database.execute(
        "UPDATE topic_log SET published_at = $2 WHERE topic = $1 AND position < $3",
        topic.name,
        utc_now() - NEW_READER_AGE - timedelta(minutes=1),
        positions[2],
    )
    subscription = Subscription("first", topic)

    async def read_position() -> int:
        await embedded_bus.declare_channels([topic], [subscription])
        query = "SELECT position FROM cursor WHERE subscription = $1"
        return int(await embedded_bus.database.fetchval(query, subscription.name))

    assert await read_position() == positions[1]
    await embedded_bus.database.execute(
        "UPDATE cursor SET position = $2 WHERE subscription = $1", subscription.name, positions[2]
    )
    assert await read_position() == positions[2], "a reader that has a position keeps it"
