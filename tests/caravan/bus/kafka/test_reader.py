"""A member of a group commits what is finished and nothing else, and a rebalance finds it in order."""

import asyncio

import pytest
from aiokafka.errors import CommitFailedError, KafkaConnectionError, KafkaError

from caravan.bus.kafka import reader as reader_module
from caravan.bus.kafka.reader import build_incoming
from tests.caravan.bus.kafka.fake_kafka import FakeKafka, make_record
from tests.caravan.bus.kafka.group_member import (
    DEAD,
    FIRST,
    GROUP,
    RETRY,
    Handler,
    run_member,
    send_bodies,
)
from tests.caravan.bus.waiting import wait_for


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "RETRY_BUFFER_MAX", 2)
    monkeypatch.setattr(reader_module, "_UNCOMMITTED_SECONDS", 0.01)


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
