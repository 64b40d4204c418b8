"""What the bus of topics tells its callers: which messages Kafka did not take, and why it can't be asked."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from caravan.bus import DEAD_LETTER_MAX_BYTES, DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka import bus as bus_module
from caravan.bus.kafka_servers import KafkaServers
from caravan.clock import new_id
from caravan.messages import Event, OutgoingMessage, Queue, Topic
from tests.caravan.bus.kafka.fake_kafka import FakeConsumer, FakeKafka
from tests.caravan.bus.publishing import BY_EARLIER, publish_and_fail
from tests.caravan.bus.waiting import wait_for


class Seen(Event):
    number: int


SEEN = Subscription("reader", Topic("seen", "test", (Seen,), "key", "test", partitions=2))
OTHER = Subscription("reader", Topic("other", "test", (Seen,), "key", "test", partitions=2))


@pytest.fixture
async def bus(fake_kafka: FakeKafka) -> AsyncIterator[KafkaBus]:
    """With the topics of two subscriptions."""
    for subscription in (SEEN, OTHER):
        fake_kafka.add_topic(subscription.channel, 2)
        fake_kafka.add_topic(f"{subscription.name}.retry")
        fake_kafka.add_topic(f"{subscription.name}.dlq")
    opened = KafkaBus(KafkaServers("127.0.0.1:1"), "test")
    yield opened
    await opened.close()


def make_message(topic: str, key: str, body: bytes) -> OutgoingMessage:
    return OutgoingMessage("topic", topic, "", key, new_id(), body)


async def test_a_message_is_written_with_its_key_and_its_id(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    message = make_message("seen", "order-1", b"{}")
    await bus.publish([message])
    (record,) = fake_kafka.partitions[TopicPartition("seen", 0)]
    assert (record.key, record.value) == (b"order-1", b"{}")
    assert dict(record.headers)["message-id"].decode() == str(message.id)
    assert "traceparent" not in dict(record.headers)


async def test_a_message_names_its_trace_in_a_header_for_readers_that_are_not_ours(
    bus: KafkaBus, fake_kafka: FakeKafka
) -> None:
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    body = b'{"data":{"traceparent":"mine"},"traceparent":"%b","actor":"x"}' % trace.encode()
    await bus.publish([make_message("seen", "order-1", body)])
    (record,) = fake_kafka.partitions[TopicPartition("seen", 0)]
    assert dict(record.headers)["traceparent"].decode() == trace


async def test_a_message_that_is_too_large_is_refused_for_good_and_holds_back_its_key_alone(
    bus: KafkaBus, fake_kafka: FakeKafka
) -> None:
    fake_kafka.size_limit = 5
    failures = await publish_and_fail(
        bus,
        make_message("seen", "a", b"0"),
        make_message("seen", "b", b"too large"),
        make_message("seen", "b", b"1"),
        make_message("seen", "c", b"2"),
        make_message("other", "b", b"3"),
    )
    assert failures == {
        b"too large": ("[Error 10] MessageSizeTooLargeError: The message is 9 bytes", True),
        b"1": (BY_EARLIER, False),
    }
    assert set(fake_kafka.read_values("seen")) == {b"0", b"2"}
    assert fake_kafka.read_values("other") == [b"3"]


async def test_a_broker_that_goes_while_the_refused_one_is_looked_for_is_asked_once(
    bus: KafkaBus, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each further message would wait as long as the first."""
    monkeypatch.setattr(bus_module, "_PUBLISH_SECONDS", 0.05)
    fake_kafka.size_limit = 5
    fake_kafka.withhold_answer("send to seen")
    messages = [make_message("seen", f"key-{number}", b"%d" % number) for number in range(20)]
    failures = await publish_and_fail(bus, make_message("seen", "key-3", b"too large"), *messages)
    assert len(failures) == 21
    assert failures[b"too large"][1]
    assert not any(permanent for body, (_, permanent) in failures.items() if body != b"too large")
    assert len(fake_kafka.producers) <= 3


async def test_what_the_broker_does_not_take_is_not_refused_for_good(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    """And the producer, which has a gap by then, is not used again."""
    fake_kafka.failures["send to seen"] = KafkaTimeoutError()
    messages = [make_message("seen", "a", b"0"), make_message("seen", "b", b"1"), make_message("other", "a", b"2")]
    failures = await publish_and_fail(bus, *messages)
    reason = "not taken by Kafka (KafkaTimeoutError); is the broker up, and does the topic exist?"
    assert failures == {b"0": (reason, False), b"1": (reason, False)}
    assert fake_kafka.read_values("other") == [b"2"]
    await bus.publish(messages[:2])
    assert fake_kafka.read_values("seen") == [b"0", b"1"]
    assert len(fake_kafka.producers) == 2


async def test_a_topic_that_is_not_there_holds_back_its_own_messages_only(
    bus: KafkaBus, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_METADATA_SECONDS", 0.02)
    failures = await publish_and_fail(bus, make_message("nowhere", "a", b"0"), make_message("seen", "a", b"1"))
    assert {body: permanent for body, (_, permanent) in failures.items()} == {b"0": False}
    assert fake_kafka.read_values("seen") == [b"1"]
    assert len(fake_kafka.producers) == 1, "nothing was lost with it"


async def test_a_broker_that_confirms_nothing_is_waited_for_until_a_deadline(
    bus: KafkaBus, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_PUBLISH_SECONDS", 0.02)
    fake_kafka.withhold_answer("send to seen")
    assert "TimeoutError" in (await publish_and_fail(bus, make_message("seen", "a", b"0")))[b"0"][0]


async def test_without_a_broker_a_publish_fails_and_starting_says_where_it_looked(
    bus: KafkaBus, fake_kafka: FakeKafka
) -> None:
    fake_kafka.failures["start producer"] = KafkaConnectionError("nobody there")
    assert "KafkaConnectionError" in (await publish_and_fail(bus, make_message("seen", "a", b"0")))[b"0"][0]
    fake_kafka.failures["start producer"] = KafkaConnectionError("nobody there")
    with pytest.raises(ConnectionError, match=r"Kafka at 127.0.0.1:1 can't be used"):
        await bus.start()


@asynccontextmanager
async def consume_seen(
    bus: KafkaBus, fake_kafka: FakeKafka, *results: HandlingResult
) -> AsyncIterator[tuple[asyncio.Task[None], list[bytes]]]:
    """A consumer whose handler gives these results, and then is done with everything."""
    bodies: list[bytes] = []
    remaining = list(results)

    async def handle_batch(batch: list[IncomingMessage]) -> list[HandlingResult]:
        bodies.extend(incoming.body for incoming in batch)
        return [remaining.pop(0) if remaining else DONE for _ in batch]

    consuming = asyncio.create_task(bus.consume(SEEN, handle_batch))
    try:
        await join_group(fake_kafka, 1)
        yield consuming, bodies
    finally:
        consuming.cancel()
        await asyncio.gather(consuming, return_exceptions=True)


async def join_group(fake_kafka: FakeKafka, count: int) -> FakeConsumer:
    """Assign both partitions and the retry topic to the last of so many consumers."""
    await wait_for(lambda: len(fake_kafka.consumers) == count and fake_kafka.consumers[-1].listener is not None)
    partitions = [TopicPartition("seen", 0), TopicPartition("seen", 1), TopicPartition(f"{SEEN.name}.retry", 0)]
    await fake_kafka.consumers[-1].rebalance(partitions)
    return fake_kafka.consumers[-1]


async def test_a_consumer_that_lost_the_broker_leaves_the_group_and_joins_again(
    bus: KafkaBus, fake_kafka: FakeKafka
) -> None:
    async with consume_seen(bus, fake_kafka) as (consuming, bodies):
        fake_kafka.failures["fetch"] = KafkaConnectionError("gone")
        fake_kafka.append_record("seen", b"a", b"0")
        await join_group(fake_kafka, 2)
        fake_kafka.append_record("seen", b"a", b"1")
        await wait_for(lambda: bodies[-1:] == [b"1"])
        assert [consumer.has_stopped for consumer in fake_kafka.consumers] == [True, False]
        await bus.stop()
        async with asyncio.timeout(5):
            await consuming
    assert fake_kafka.consumers[-1].has_stopped


async def test_a_consumer_that_is_cancelled_leaves_the_group(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    async with consume_seen(bus, fake_kafka) as (consuming, _):
        consuming.cancel()
        await asyncio.wait([consuming], timeout=5)
        assert consuming.cancelled()
    assert fake_kafka.consumers[0].has_stopped


async def test_a_message_that_is_given_up_can_be_listed_redriven_and_discarded(
    bus: KafkaBus, fake_kafka: FakeKafka
) -> None:
    dead = [HandlingResult(Result.DEAD, "rejected")] * 2
    async with consume_seen(bus, fake_kafka, *dead) as (_, bodies):
        fake_kafka.append_record("seen", b"order-1", b"0")
        fake_kafka.append_record("seen", b"order-2", b"1")
        await wait_for(lambda: len(fake_kafka.read_values(f"{SEEN.name}.dlq")) == 2)
        listed = await bus.list_dead_letters([SEEN, OTHER])
        assert [(each.key, each.body, each.reason, each.subscription) for each in listed] == [
            ("order-1", b"0", "rejected", SEEN.name),
            ("order-2", b"1", "rejected", SEEN.name),
        ]
        assert await bus.list_dead_letters([SEEN, OTHER], limit=1) == listed[:1]
        assert await bus.redrive(listed[:1]) == 1
        await wait_for(lambda: bodies == [b"0", b"1", b"0"])
        assert await bus.discard(listed) == 1, "the other has gone"
        assert await bus.list_dead_letters([SEEN]) == []


async def test_what_is_not_whole_stays_when_it_is_to_be_redriven(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    async with consume_seen(bus, fake_kafka, HandlingResult(Result.DEAD, "too large")):
        fake_kafka.append_record("seen", b"a", b"x" * (DEAD_LETTER_MAX_BYTES + 1))
        await wait_for(lambda: bool(fake_kafka.read_values(f"{SEEN.name}.dlq")))
        (listed,) = await bus.list_dead_letters([SEEN], preview=10)
        assert await bus.redrive([replace(listed, redrivable=True)]) == 0
        assert len(await bus.list_dead_letters([SEEN], preview=10)) == 1


async def test_a_dead_letter_that_could_not_be_sent_again_is_kept(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    fake_kafka.append_record(f"{SEEN.name}.dlq", b"seen/0/0@1", b"{}")
    listed = await bus.list_dead_letters([SEEN])
    fake_kafka.failures[f"send to {SEEN.name}.retry"] = KafkaTimeoutError()
    with pytest.raises(ConnectionError, match="Kafka did not take it"):
        await bus.redrive(listed)
    assert await bus.list_dead_letters([SEEN]) == listed
    fake_kafka.failures[f"send to {SEEN.name}.dlq"] = KafkaTimeoutError()
    with pytest.raises(ConnectionError, match="Kafka did not take it"):
        await bus.discard(listed)


async def test_lag_is_that_of_every_partition_and_of_what_is_redriven(bus: KafkaBus, fake_kafka: FakeKafka) -> None:
    assert await bus.measure_lag([]) == {}
    for topic, partition in (("seen", 0), ("seen", 1), (f"{SEEN.name}.retry", 0)):
        fake_kafka.append_record(topic, b"a", b"{}", partition=partition)
    assert await bus.measure_lag([SEEN, OTHER]) == {SEEN.name: 3, OTHER.name: 0}
    fake_kafka.failures["end offsets"] = KafkaConnectionError("gone")
    with pytest.raises(ConnectionError, match="can't be asked"):
        await bus.measure_lag([SEEN])


async def test_channels_of_the_other_broker_need_nothing_of_kafka(bus: KafkaBus) -> None:
    """It is not even asked: nobody listens at this address."""
    await bus.declare_channels([Queue("test.count", "test", (), "key", "test")], [])
