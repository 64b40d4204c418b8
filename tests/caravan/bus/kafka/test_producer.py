"""The producer of a process: nobody sends with one whose publish failed, and none is left open."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from caravan.bus.kafka import producer as producer_module
from caravan.bus.kafka.producer import Producer
from caravan.bus.kafka_servers import KafkaServers
from tests.caravan.bus.kafka.fake_kafka import FakeKafka

CLOSED_WITHOUT_FLUSH = ["sender", "client"]


def make_producer() -> Producer:
    return Producer(KafkaServers("nowhere:9092"), "test")


async def test_it_is_idempotent_and_confirmed_by_all_replicas(fake_kafka: FakeKafka) -> None:
    await make_producer().start()
    settings = fake_kafka.producers[0].settings
    assert (settings["enable_idempotence"], settings["acks"], settings["client_id"]) == (True, "all", "test")


@pytest.mark.parametrize(("setting", "weaker"), [("acks", 1), ("enable_idempotence", False)])
async def test_a_client_that_may_lose_messages_is_refused_and_closed(
    fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, setting: str, weaker: object
) -> None:
    monkeypatch.setitem(producer_module._SETTINGS, setting, weaker)
    with pytest.raises(RuntimeError, match="not idempotent"):
        await make_producer().start()
    assert fake_kafka.producers[0].closings == CLOSED_WITHOUT_FLUSH


async def test_one_that_can_not_connect_is_closed_and_the_next_user_tries_again(fake_kafka: FakeKafka) -> None:
    producer = make_producer()
    fake_kafka.failures["start producer"] = KafkaConnectionError("nobody there")
    with pytest.raises(KafkaConnectionError):
        await producer.start()
    assert fake_kafka.producers[0].closings == CLOSED_WITHOUT_FLUSH
    async with producer.use_producer() as connected:
        assert connected is fake_kafka.producers[1]


async def test_users_that_come_at_once_share_one(fake_kafka: FakeKafka) -> None:
    producer = make_producer()

    async def use_once() -> object:
        async with producer.use_producer() as used:
            return used

    assert set(await asyncio.gather(*(use_once() for _ in range(5)))) == set(fake_kafka.producers)
    assert len(fake_kafka.producers) == 1


async def test_one_that_can_not_connect_is_waited_for_once_by_all_who_came_meanwhile(fake_kafka: FakeKafka) -> None:
    """Else each topic of a batch waits for the deadline of every one before it."""
    producer, answered = make_producer(), fake_kafka.withhold_answer("start producer")
    fake_kafka.failures["start producer"] = KafkaConnectionError("nobody there")
    users = [asyncio.create_task(producer.start()) for _ in range(5)]
    while not fake_kafka.producers:
        await asyncio.sleep(0)
    answered.set()
    errors = await asyncio.gather(*users, return_exceptions=True)
    assert [type(error) for error in errors] == [KafkaConnectionError] * 5
    assert len(fake_kafka.producers) == 1


async def test_one_that_failed_is_replaced_at_once_and_closed_after_its_last_user(fake_kafka: FakeKafka) -> None:
    """What it still buffers may arrive after newer messages, so closing it does not flush."""
    producer = make_producer()
    async with producer.use_producer() as failed:
        async with producer.use_producer():
            producer.retire_producer(failed)
        async with producer.use_producer() as replacement:
            assert replacement is not failed
        assert fake_kafka.producers[0].closings == []
    assert [each.closings for each in fake_kafka.producers] == [CLOSED_WITHOUT_FLUSH, []]


async def test_a_late_failure_of_the_former_one_does_not_replace_its_successor(fake_kafka: FakeKafka) -> None:
    producer = make_producer()
    async with producer.use_producer() as former:
        producer.retire_producer(former)
        async with producer.use_producer() as successor:
            producer.retire_producer(former)
            async with producer.use_producer() as used:
                assert used is successor


async def test_closing_flushes_what_was_sent(fake_kafka: FakeKafka) -> None:
    producer = make_producer()
    await producer.close()
    assert fake_kafka.producers == [], "one that was never used has nothing to close"
    await producer.start()
    await producer.close()
    await producer.close()
    assert fake_kafka.producers[0].closings == ["flush", *CLOSED_WITHOUT_FLUSH]


async def test_closing_waits_for_no_broker(fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producer_module, "_CLOSE_SECONDS", 0.01)
    producer = make_producer()
    await producer.start()
    fake_kafka.withhold_answer("flush", "close sender")
    fake_kafka.failures["close client"] = KafkaTimeoutError()
    async with asyncio.timeout(2):
        await producer.close()
    assert fake_kafka.producers[0].closings == ["flush", *CLOSED_WITHOUT_FLUSH]


async def test_a_user_that_is_under_way_when_it_is_closed_hears_its_own_error(fake_kafka: FakeKafka) -> None:
    producer = make_producer()

    async def fail_to_send() -> None:
        async with producer.use_producer():
            await producer.close()
            raise KafkaTimeoutError

    with pytest.raises(KafkaTimeoutError):
        await fail_to_send()
    assert fake_kafka.producers[0].closings[:3] == ["flush", *CLOSED_WITHOUT_FLUSH]
