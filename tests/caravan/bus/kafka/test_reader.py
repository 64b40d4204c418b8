"""A member of a group commits what is finished and nothing else, and a rebalance finds it in order."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import CommitFailedError, KafkaConnectionError, KafkaError

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result, Subscription
from caravan.bus.kafka import reader as reader_module
from caravan.bus.kafka.reader import GroupReader, build_incoming
from caravan.bus.kafka.subscriber import build_broker
from caravan.bus.kafka_servers import KafkaServers
from caravan.messages import Event, RetryPolicy, Topic
from tests.caravan.bus.kafka.fake_kafka import FakeConsumer, FakeKafka, make_record
from tests.support.shop import wait_until

FIRST = TopicPartition("seen", 0)
GROUP = "reader.seen"
SERVERS = KafkaServers("nowhere:9092", "SASL_PLAINTEXT", "PLAIN", "user", "secret")
RETRY = HandlingResult(Result.RETRY, "failed")
DEAD = HandlingResult(Result.DEAD, "rejected")


class Seen(Event):
    number: int


@dataclass
class Handler:
    """Notes the bodies that it was given, and what it answers to each; it ends a batch when `may_end` is set."""

    results: dict[bytes, list[HandlingResult]] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.may_end.set()

    async def handle_batch(self, batch: list[IncomingMessage]) -> list[HandlingResult]:
        by_key: dict[str, HandlingResult] = {}
        outcomes = []
        for incoming in batch:
            if by_key.get(incoming.key) is RETRY:
                outcomes.append(HandlingResult(Result.BLOCKED))
                continue
            self.bodies.append(incoming.body)
            waiting = self.results.get(incoming.body)
            by_key[incoming.key] = waiting.pop(0) if waiting else DONE
            outcomes.append(by_key[incoming.key])
        await self.may_end.wait()
        return outcomes


@dataclass
class Member:
    reader: GroupReader
    consumer: FakeConsumer
    running: asyncio.Task[None]
    dead_letters: list[bytes]


@asynccontextmanager
async def run_member(
    kafka: FakeKafka, handler: Handler, delays: tuple[float, ...] = (0.01, 0.01), error: Exception | None = None
) -> AsyncIterator[Member]:
    """A reader that owns the only partition of its topic; `error`: what writing a dead letter raises."""
    dead_letters: list[bytes] = []

    async def write_dead_letter(_: Subscription, incoming: IncomingMessage, reason: str) -> None:
        if error:
            raise error
        dead_letters.append(incoming.body)

    kafka.add_topic("seen")
    topic = Topic("seen", "test", (Seen,), "key", "test", retry=RetryPolicy(delays=delays))
    broker = build_broker(SERVERS, "test")
    await broker.connect()
    reader = GroupReader(
        broker, SERVERS, ["seen"], write_dead_letter, Subscription("reader", topic, batch=10), handler.handle_batch
    )
    running = asyncio.create_task(reader.run())
    await wait_for(lambda: bool(kafka.consumers and kafka.consumers[0].listener))
    await kafka.consumers[0].rebalance([FIRST])
    try:
        yield Member(reader, kafka.consumers[0], running, dead_letters)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await reader.close()


async def wait_for(condition: Callable[[], bool]) -> None:
    async def check_condition() -> bool:
        return condition()

    await wait_until(check_condition, seconds=5, every=0.001)


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "RETRY_BUFFER_MAX", 2)
    monkeypatch.setattr(reader_module, "_UNCOMMITTED_SECONDS", 0.01)


def send_bodies(kafka: FakeKafka, *messages: tuple[str, bytes]) -> None:
    for key, body in messages:
        kafka.append_record("seen", key.encode(), body)


async def test_the_consumer_loses_nothing_and_logs_in(fake_kafka: FakeKafka) -> None:
    async with run_member(fake_kafka, Handler()) as member:
        settings = member.consumer.settings
    assert (settings["enable_auto_commit"], settings["auto_offset_reset"]) == (False, "earliest")
    assert (settings["isolation_level"], settings["group_id"]) == ("read_committed", GROUP)
    assert (settings["security_protocol"], settings["sasl_plain_username"]) == ("SASL_PLAINTEXT", "user")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [(b"k", b"{}", ("k", b"{}")), (None, None, ("", b"")), (b"\xff", b"\xff", ("�", b"\xff"))],
)
def test_any_record_is_a_message(key: bytes | None, value: bytes | None, expected: tuple[str, bytes]) -> None:
    """One that can't be decoded, too: the inbox counts its attempts."""
    incoming = build_incoming(make_record("seen", 0, key, value))
    assert (incoming.key, incoming.body, incoming.attempt) == (*expected, 1)


async def test_nothing_behind_an_unfinished_message_is_committed(fake_kafka: FakeKafka) -> None:
    """A crash would lose it."""
    handler = Handler({b"1": [RETRY]})
    async with run_member(fake_kafka, handler, delays=(30.0,)) as member:
        send_bodies(fake_kafka, ("a", b"0"), ("b", b"1"), ("c", b"2"))
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 1)
        send_bodies(fake_kafka, ("c", b"3"))
        await wait_for(lambda: len(handler.bodies) == 4)
        member.reader.stop()
        await member.running
    assert fake_kafka.committed[GROUP] == {FIRST: 1}


async def test_what_follows_a_failed_message_under_its_key_is_handled_after_it(fake_kafka: FakeKafka) -> None:
    handler = Handler({b"0": [RETRY, RETRY]})
    async with run_member(fake_kafka, handler):
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: handler.bodies == [b"0"])
        send_bodies(fake_kafka, ("a", b"1"), ("b", b"2"))
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 3)
    assert [body for body in handler.bodies if body != b"2"] == [b"0", b"0", b"0", b"1"]


async def test_one_that_is_given_up_is_committed_when_its_dead_letter_is_written(fake_kafka: FakeKafka) -> None:
    async with run_member(fake_kafka, Handler({b"0": [DEAD]})) as member:
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 1)
        assert member.dead_letters == [b"0"]


async def test_one_whose_dead_letter_is_not_written_comes_again(fake_kafka: FakeKafka) -> None:
    async with run_member(fake_kafka, Handler({b"1": [DEAD]}), error=KafkaConnectionError("gone")) as member:
        send_bodies(fake_kafka, ("a", b"0"), ("b", b"1"))
        with pytest.raises(KafkaConnectionError):
            await member.running
    assert fake_kafka.committed[GROUP].get(FIRST, 0) <= 1


async def test_a_rebalance_waits_for_the_batch_in_hand_and_its_commit(fake_kafka: FakeKafka) -> None:
    handler = Handler()
    async with run_member(fake_kafka, handler) as member:
        handler.may_end.clear()
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: handler.bodies == [b"0"])
        rebalance = asyncio.create_task(member.consumer.rebalance([]))
        await asyncio.wait([rebalance], timeout=0.01)
        assert not rebalance.done()
        handler.may_end.set()
        await rebalance
        assert fake_kafka.committed[GROUP] == {FIRST: 1}


async def test_what_was_fetched_before_a_rebalance_is_not_handled_twice(fake_kafka: FakeKafka) -> None:
    """The next owner, which may be the same one, fetches it again from what is committed."""
    handler = Handler()
    async with run_member(fake_kafka, handler) as member:
        answered = fake_kafka.withhold_answer("commit")
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: handler.bodies == [b"0"])
        rebalance = asyncio.create_task(member.consumer.rebalance([FIRST]))
        send_bodies(fake_kafka, ("a", b"1"))
        await asyncio.wait([rebalance], timeout=0.01)
        answered.set()
        await rebalance
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 2)
    assert handler.bodies == [b"0", b"1"]


async def test_what_waits_to_be_tried_again_is_left_to_the_next_owner(fake_kafka: FakeKafka) -> None:
    handler = Handler({b"0": [RETRY]})
    async with run_member(fake_kafka, handler, delays=(30.0,)) as member:
        send_bodies(fake_kafka, ("a", b"0"), ("a", b"1"))
        await wait_for(lambda: len(member.reader.retry_buffer) == 2)
        await member.consumer.rebalance([])
        assert len(member.reader.retry_buffer) == 0
        await member.consumer.rebalance([FIRST])
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 2)
    assert handler.bodies == [b"0", b"0", b"1"]


async def test_a_rebalance_that_did_not_wait_for_the_batch_ends_the_reader_uncommitted(
    fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another owner has begun with these messages by then."""
    monkeypatch.setattr(reader_module, "_REVOKE_SECONDS", 0.01)
    handler = Handler({b"0": [DEAD]})
    async with run_member(fake_kafka, handler) as member:
        handler.may_end.clear()
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: handler.bodies == [b"0"])
        await member.consumer.rebalance([])
        handler.may_end.set()
        with pytest.raises(ConnectionError, match="the group went on without this reader"):
            await asyncio.wait_for(member.running, 5)
        assert member.dead_letters == []
    assert fake_kafka.committed[GROUP] == {}


async def test_a_commit_that_the_group_refuses_is_made_again_with_the_next(fake_kafka: FakeKafka) -> None:
    fake_kafka.failures["commit"] = CommitFailedError("a rebalance goes on")
    handler = Handler()
    async with run_member(fake_kafka, handler) as member:
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 1)
        assert not member.running.done()
    assert handler.bodies == [b"0"]


async def test_a_commit_that_no_broker_takes_ends_the_reader_which_joins_anew(fake_kafka: FakeKafka) -> None:
    fake_kafka.failures["commit"] = KafkaConnectionError("gone")
    async with run_member(fake_kafka, Handler()) as member:
        send_bodies(fake_kafka, ("a", b"0"))
        with pytest.raises(KafkaConnectionError):
            await member.running


async def test_a_partition_is_paused_while_too_much_of_it_waits(fake_kafka: FakeKafka) -> None:
    handler = Handler({b"0": [RETRY]})
    async with run_member(fake_kafka, handler, delays=(0.2,)) as member:
        send_bodies(fake_kafka, ("a", b"0"))
        await wait_for(lambda: len(member.reader.retry_buffer) == 1)
        send_bodies(fake_kafka, ("a", b"1"), ("a", b"2"))
        await wait_for(lambda: member.consumer.paused_partitions == {FIRST})
        send_bodies(fake_kafka, ("b", b"3"))
        await wait_for(lambda: fake_kafka.committed[GROUP].get(FIRST) == 4)
        assert member.consumer.paused_partitions == set()
    assert handler.bodies == [b"0", b"0", b"1", b"2", b"3"], "the last was not even fetched before"


async def test_a_partition_that_was_full_is_paused_again_after_a_rebalance(fake_kafka: FakeKafka) -> None:
    async with run_member(fake_kafka, Handler({b"0": [RETRY, RETRY]}), delays=(60.0,)) as member:
        send_bodies(fake_kafka, ("a", b"0"), ("a", b"1"), ("a", b"2"))
        await wait_for(lambda: member.consumer.paused_partitions == {FIRST})
        await member.consumer.rebalance([FIRST])
        await wait_for(lambda: member.consumer.paused_partitions == {FIRST})


async def test_a_reader_at_rest_stops_at_once_and_commits_what_it_finished(
    fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "_UNCOMMITTED_SECONDS", 30.0)
    monkeypatch.setattr(reader_module, "_COMMIT_SECONDS", 30.0)
    handler = Handler()
    async with run_member(fake_kafka, handler) as member:
        for number in range(2):
            send_bodies(fake_kafka, ("a", b"%d" % number))
            await wait_for(lambda: len(handler.bodies) == number + 1)  # noqa: B023 - awaited here
        assert fake_kafka.committed[GROUP] == {FIRST: 1}, "its next commit is not due"
        member.reader.stop()
        async with asyncio.timeout(2):
            await member.running
    assert fake_kafka.committed[GROUP] == {FIRST: 2}


@pytest.mark.parametrize("is_answering", [True, False])
async def test_closing_leaves_the_group_and_waits_for_no_broker(
    fake_kafka: FakeKafka, monkeypatch: pytest.MonkeyPatch, is_answering: bool
) -> None:
    monkeypatch.setattr(reader_module, "_CLOSE_SECONDS", 0.01)
    async with run_member(fake_kafka, Handler()) as member:
        if is_answering:
            fake_kafka.failures["stop consumer"] = KafkaError("gone")
        else:
            fake_kafka.withhold_answer("stop consumer")
        member.reader.stop()
        await member.running
        async with asyncio.timeout(2):
            await member.reader.close()
        assert member.consumer.has_stopped
