"""Lag and dead letters of Kafka, asked with one client that is made anew when it failed."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaError, UnknownTopicOrPartitionError

from caravan.bus import DeadLetter
from caravan.bus.kafka import inspector as inspector_module
from caravan.bus.kafka.inspector import KafkaInspector
from caravan.bus.kafka_servers import KafkaServers
from tests.caravan.bus.kafka.fake_kafka import FakeKafka

FIRST, SECOND = TopicPartition("seen", 0), TopicPartition("seen", 1)
DLQ = "reader.seen.dlq"


@pytest.fixture
def inspector(fake_kafka: FakeKafka) -> KafkaInspector:
    """Of a topic with 5 and 2 records, and a dead-letter topic that is empty."""
    fake_kafka.add_topic("seen", partitions=2)
    fake_kafka.add_topic(DLQ)
    for partition, count in ((0, 5), (1, 2)):
        for _ in range(count):
            fake_kafka.append_record("seen", b"key", b"{}", partition=partition)
    return KafkaInspector(KafkaServers("nowhere:9092"), "test")


def list_ids(dead_letters: list[DeadLetter]) -> list[str]:
    return [dead_letter.id for dead_letter in dead_letters]


async def fetch_batches(inspector: KafkaInspector, *ids: str) -> list[list[str]]:
    return [list_ids(batch) async for batch in inspector.fetch_dead_letters("reader.seen", ids)]


async def test_lag_is_what_a_group_has_not_committed(inspector: KafkaInspector, fake_kafka: FakeKafka) -> None:
    """A group that never committed on a partition has all of it before it; one set too far ahead has nothing."""
    fake_kafka.committed["behind"] = {FIRST: 3}
    fake_kafka.committed["ahead"] = {FIRST: 9, SECOND: 2}
    groups = {group: [FIRST, SECOND] for group in ("behind", "ahead", "new")}
    assert await inspector.measure_lag(groups) == {"behind": 4, "ahead": 0, "new": 7}


@pytest.mark.parametrize("operation", ["start consumer", "start admin", "end offsets", "group offsets"])
async def test_when_kafka_can_not_be_asked_it_says_so_and_the_clients_are_made_anew(
    inspector: KafkaInspector, fake_kafka: FakeKafka, operation: str
) -> None:
    fake_kafka.failures[operation] = KafkaConnectionError("gone")
    with pytest.raises(ConnectionError, match=r"Kafka at nowhere:9092 can't be asked.*gone"):
        await inspector.measure_lag({"group": [FIRST]})
    assert fake_kafka.consumers[0].has_stopped
    assert await inspector.measure_lag({"group": [FIRST]}) == {"group": 5}
    assert [each.has_stopped for each in fake_kafka.consumers] == [True, False]


@pytest.mark.parametrize("operation", ["start consumer", "end offsets", "fetch"])
async def test_a_broker_that_gives_no_answer_is_waited_for_until_a_deadline(
    inspector: KafkaInspector, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    monkeypatch.setattr(inspector_module, "_INSPECT_SECONDS", 0.02)
    monkeypatch.setattr("caravan.bus.opening._LONGER_SECONDS", 0.02)
    fake_kafka.append_record(DLQ, b"a", b"{}")
    fake_kafka.withhold_answer(operation)
    async with asyncio.timeout(2):
        with pytest.raises(ConnectionError, match="TimeoutError"):
            await inspector.list_dead_letters("reader.seen", 10, 10)
    assert fake_kafka.consumers[0].has_stopped


async def test_a_second_question_takes_the_same_clients_which_fetch_nothing_meanwhile(
    inspector: KafkaInspector, fake_kafka: FakeKafka
) -> None:
    fake_kafka.append_record(DLQ, b"a", b"{}")
    for _ in range(2):
        await inspector.list_dead_letters("reader.seen", 10, 10)
        assert fake_kafka.consumers[0].assignment() == set()
    assert (len(fake_kafka.consumers), len(fake_kafka.admins)) == (1, 1)
    await inspector.close()
    assert (fake_kafka.consumers[0].has_stopped, fake_kafka.admins[0].has_closed) == (True, True)


async def test_closing_closes_both_whatever_the_broker_says(inspector: KafkaInspector, fake_kafka: FakeKafka) -> None:
    await inspector.measure_lag({"group": [FIRST]})
    fake_kafka.failures |= {"stop consumer": KafkaError(), "close admin": TimeoutError()}
    await inspector.close()
    assert (fake_kafka.consumers[0].has_stopped, fake_kafka.admins[0].has_closed) == (True, True)


async def test_who_waits_too_long_for_another_question_leaves_it_alone(
    inspector: KafkaInspector, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other's clients are in use; closing them would end its answer, too."""
    async with inspector._open_clients():
        monkeypatch.setattr(inspector_module, "_INSPECT_SECONDS", 0.02)
        with pytest.raises(ConnectionError, match="TimeoutError"):
            await inspector.measure_lag({"group": [FIRST]})
        assert not fake_kafka.consumers[0].has_stopped


async def test_who_is_cancelled_while_a_client_fails_to_connect_leaves_none_that_is_not_connected(
    inspector: KafkaInspector, fake_kafka: FakeKafka
) -> None:
    fake_kafka.failures["start consumer"] = KafkaConnectionError("gone")
    asking = asyncio.create_task(inspector.measure_lag({"group": [FIRST]}))
    while not fake_kafka.consumers:
        await asyncio.sleep(0)
    asking.cancel()
    await asyncio.wait([asking], timeout=2)
    assert asking.cancelled()
    assert await inspector.measure_lag({"group": [FIRST]}) == {"group": 5}
    assert [each.has_stopped for each in fake_kafka.consumers] == [True, False]


async def test_dead_letters_are_those_without_a_tombstone(inspector: KafkaInspector, fake_kafka: FakeKafka) -> None:
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"c", b"3456"), (b"a", None)):
        fake_kafka.append_record(DLQ, key, value)
    dead_letters = await inspector.list_dead_letters("reader.seen", 10, 3)
    assert list_ids(dead_letters) == ["b", "c"]
    assert (dead_letters[1].body, dead_letters[1].size) == (b"345", 4)
    assert await inspector.list_dead_letters("reader.unknown", 10, 3) == [], "whose topic is not there yet"


async def test_those_that_are_gone_do_not_count_towards_the_limit(
    inspector: KafkaInspector, fake_kafka: FakeKafka
) -> None:
    """Their tombstones come later in the topic than what stands behind them."""
    for number in range(4):
        fake_kafka.append_record(DLQ, b"%d" % number, b"{}")
    for number in range(2):
        fake_kafka.append_record(DLQ, b"%d" % number, None)
    assert list_ids(await inspector.list_dead_letters("reader.seen", 2, 10)) == ["2", "3"]
    assert list_ids(await inspector.list_dead_letters("reader.seen", 1, 10)) == ["2"]


async def test_one_that_is_written_twice_is_one(inspector: KafkaInspector, fake_kafka: FakeKafka) -> None:
    for value in (b"first", b"again"):
        fake_kafka.append_record(DLQ, b"a", value)
    assert [each.body for each in await inspector.list_dead_letters("reader.seen", 10, 10)] == [b"again"]
    assert await fetch_batches(inspector, "a") == [["a"]]


async def test_fetched_are_those_asked_for_whole_in_their_order_a_few_at_a_time(
    inspector: KafkaInspector, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector_module, "_FETCH_BATCH", 2)
    for key, value in ((b"a", b"1"), (b"b", b"2"), (b"c", b"3"), (b"d", b"4"), (b"e", b"5"), (b"b", None)):
        fake_kafka.append_record(DLQ, key, value)
    assert await fetch_batches(inspector, "e", "d", "b", "a", "never") == [["a", "d"], ["e"]]
    assert await fetch_batches(inspector, "b") == []
    assert [each.body async for batch in inspector.fetch_dead_letters("reader.seen", ["c"]) for each in batch] == [b"3"]


async def test_a_scan_that_takes_too_long_gives_what_it_has(
    inspector: KafkaInspector, fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspector_module, "_SCAN_SECONDS", -1.0)
    fake_kafka.append_record(DLQ, b"a", b"{}")
    assert await inspector.list_dead_letters("reader.seen", 10, 10) == []


async def test_a_broker_that_refuses_to_be_scanned_can_not_be_asked(
    inspector: KafkaInspector, fake_kafka: FakeKafka
) -> None:
    fake_kafka.failures["topics"] = UnknownTopicOrPartitionError()
    with pytest.raises(ConnectionError, match="UnknownTopicOrPartition"):
        await fetch_batches(inspector, "a")
