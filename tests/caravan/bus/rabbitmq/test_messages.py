"""Messages and dead letters on RabbitMQ as their headers have them, and looking at a dead-letter queue without loss."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from caravan.bus import DEAD_LETTER_KEY_BYTES, DEAD_LETTER_MAX_BYTES, IncomingMessage
from caravan.bus.rabbitmq import messages
from caravan.bus.rabbitmq.connections import RabbitConnection
from caravan.bus.rabbitmq.messages import (
    QueueBrowser,
    browse,
    build_dead_letter,
    build_message,
    parse_dead_letter,
    read_header,
    read_number,
)
from caravan.clock import EPOCH
from tests.caravan.bus.rabbitmq.fake_rabbitmq import Delivery, FakeRabbitmq

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DLQ = "test.count.dlq"


def make_delivery(body: bytes = b"{}", headers: dict[str, Any] | None = None, message_id: str | None = None) -> Any:
    return Delivery(0, body, headers or {}, message_id)


def deliver_dead_letter(body: bytes, reason: str = "rejected", key: str = "order-1") -> Any:
    """The dead letter of a message as it is delivered from its queue."""
    incoming = IncomingMessage(key, body, 3, make_delivery(body, message_id="id-1"))
    built = build_dead_letter("test.count", incoming, reason, NOW)
    return make_delivery(built.body, dict(built.headers), built.message_id)


def test_a_message_is_kept_by_a_broker_that_restarts_and_names_its_key() -> None:
    message = build_message(b"{}", "order-1", "id-1", {"x-attempt": 2})
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert (message.message_id, message.headers) == ("id-1", {"x-key": "order-1", "x-attempt": 2})


@pytest.mark.parametrize(
    ("value", "number"), [(2, 2), ("2", 1), (b"2", 1), (0, 1), (-3, 1), (None, 1), (2.5, 1), ([2], 1)]
)
def test_a_number_that_a_foreign_producer_wrote_is_a_number_above_zero_or_the_default(value: Any, number: int) -> None:
    assert read_number(make_delivery(headers={"x-attempt": value}), "x-attempt", 1) == number


def test_a_header_is_text_or_the_default() -> None:
    assert read_header(make_delivery(headers={"x-key": b"\xffkey"}), "x-key", "") == "�key"
    without_headers = make_delivery()
    without_headers.headers = None
    assert read_header(without_headers, "x-key", "none") == "none"


def test_what_is_written_of_a_message_is_read_again() -> None:
    dead_letter = parse_dead_letter("test.count", deliver_dead_letter(b'{"number": 1}'))
    assert (dead_letter.subscription, dead_letter.channel, dead_letter.key) == ("test.count", "test.count", "order-1")
    assert (dead_letter.body, dead_letter.size, dead_letter.redrivable) == (b'{"number": 1}', 13, True)
    assert (dead_letter.reason, dead_letter.attempt, dead_letter.dead_lettered_at) == ("rejected", 3, NOW)
    assert parse_dead_letter("test.count", deliver_dead_letter(b"{}")).id != dead_letter.id


def test_a_preview_is_not_the_whole_and_a_reason_keeps_its_beginning_only() -> None:
    dead_letter = parse_dead_letter("test.count", deliver_dead_letter(b"0123456789", "r" * 5000), 4)
    assert (dead_letter.body, dead_letter.size, dead_letter.redrivable) == (b"0123", 10, True)
    assert dead_letter.reason == "r" * 2000


def test_a_body_that_is_too_long_is_kept_in_part_and_not_redriven() -> None:
    dead_letter = parse_dead_letter("test.count", deliver_dead_letter(b"x" * (DEAD_LETTER_MAX_BYTES + 1)))
    assert (len(dead_letter.body), dead_letter.size) == (DEAD_LETTER_MAX_BYTES, DEAD_LETTER_MAX_BYTES + 1)
    assert not dead_letter.redrivable


def test_a_key_that_is_too_long_is_kept_in_part_and_not_redriven() -> None:
    """Headers that don't fit into one frame end the connection on which everybody publishes."""
    longest = "k" * DEAD_LETTER_KEY_BYTES
    whole, cut = (
        parse_dead_letter("test.count", deliver_dead_letter(b"{}", key=key)) for key in (longest, longest + "x")
    )
    assert (whole.key, whole.redrivable) == (longest, True)
    assert (cut.key, cut.redrivable) == (longest, False)


def test_a_reason_that_is_no_text_of_utf_8_is_written_all_the_same() -> None:
    """Else its message could not be given up, and its key would never go on."""
    reason: Any = deliver_dead_letter(b"{}", "bad name \udc80").headers["x-reason"]
    assert reason.encode() == b"bad name ?"


def test_one_that_the_broker_dead_lettered_itself_is_known_by_its_content() -> None:
    """Such as one over a queue's length limit: it has no header of ours."""
    first, again, other = (
        parse_dead_letter("test.count", make_delivery(body, message_id="id-1")) for body in (b"{}", b"{}", b"[]")
    )
    assert first.id == again.id != other.id
    assert (first.reason, first.attempt, first.dead_lettered_at) == ("dead-lettered by the broker", 1, EPOCH)


@pytest.mark.parametrize(
    ("header", "expected"),
    [("yesterday", EPOCH), (17, EPOCH), (NOW, EPOCH), (b"\xff", EPOCH), ("2026-03-01T12:30:00+00:00", NOW)],
)
def test_a_time_that_somebody_else_wrote_is_a_time_or_the_oldest(header: Any, expected: datetime) -> None:
    delivery = make_delivery(headers={"x-died-at": header})
    assert parse_dead_letter("test.count", delivery).dead_lettered_at == expected


def test_a_time_without_a_zone_can_be_compared_with_the_others() -> None:
    """A list of dead letters is sorted by it."""
    delivery = make_delivery(headers={"x-died-at": "2026-03-01T12:30:00"})
    assert parse_dead_letter("test.count", delivery).dead_lettered_at == NOW


@pytest.fixture
def dead_letters(fake_rabbitmq: FakeRabbitmq) -> FakeRabbitmq:
    """Three of them in their queue."""
    fake_rabbitmq.add_queue(DLQ)
    for number in range(3):
        fake_rabbitmq.put_message(DLQ, b"%d" % number)
    return fake_rabbitmq


@asynccontextmanager
async def browse_queue(limit: int = 10) -> AsyncIterator[QueueBrowser]:
    connection = RabbitConnection("amqp://nobody:nothing@nowhere/", "test")
    try:
        async with browse(connection, "test.count", limit) as browser:
            yield browser
    finally:
        await connection.stop()


async def read_bodies(browser: QueueBrowser) -> list[bytes]:
    return [received.body async for received in browser.read_messages()]


@pytest.mark.parametrize(("limit", "expected"), [(10, [b"0", b"1", b"2"]), (2, [b"0", b"1"])])
async def test_what_is_read_is_back_in_its_position_when_the_look_ends(
    dead_letters: FakeRabbitmq, limit: int, expected: list[bytes]
) -> None:
    """Though the broker gives it back a little later: the next look must not miss it."""
    dead_letters.requeue_seconds = 0.05
    for _ in range(2):
        async with browse_queue(limit) as browser:
            assert await read_bodies(browser) == expected
    assert dead_letters.read_bodies(DLQ) == [b"0", b"1", b"2"]
    assert all(channel.is_closed for channel in dead_letters.channels)


async def test_what_is_removed_is_gone_and_not_waited_for(dead_letters: FakeRabbitmq) -> None:
    async with browse_queue() as browser:
        async for received in browser.read_messages():
            if received.body != b"1":
                await browser.remove(received)
    assert browser.remaining_count == 1
    assert dead_letters.read_bodies(DLQ) == [b"1"]


async def test_a_removal_that_does_not_get_out_ends_the_look(
    dead_letters: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else every later look waits for this one: there is one at a time."""
    monkeypatch.setattr(messages, "ACKNOWLEDGE_SECONDS", 0.02)
    dead_letters.withhold_answer("ack")

    async def remove_all() -> None:
        async with browse_queue() as browser:
            async for received in browser.read_messages():
                await browser.remove(received)

    async with asyncio.timeout(2):
        with pytest.raises(TimeoutError):
            await remove_all()


async def test_nothing_is_lost_when_a_look_fails(dead_letters: FakeRabbitmq) -> None:
    async def fail_to_read() -> None:
        async with browse_queue() as browser:
            await read_bodies(browser)
            raise ConnectionError("the reader's own")

    with pytest.raises(ConnectionError, match="the reader's own"):
        await fail_to_read()
    await asyncio.sleep(0)
    assert dead_letters.read_bodies(DLQ) == [b"0", b"1", b"2"]


async def test_an_empty_queue_is_not_consumed_and_a_missing_one_is_an_error(dead_letters: FakeRabbitmq) -> None:
    dead_letters.queues[DLQ].ready.clear()
    async with browse_queue() as browser:
        assert await read_bodies(browser) == []
    assert "consume" not in dead_letters.operations
    del dead_letters.queues[DLQ]
    with pytest.raises(ChannelNotFoundEntity):
        async with browse_queue():
            pass


async def test_those_that_somebody_else_looks_at_are_not_waited_for_long(
    dead_letters: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_QUIET_SECONDS", 0.02)
    async with asyncio.timeout(2), browse_queue() as browser:
        dead_letters.queues[DLQ].ready.pop()
        assert await read_bodies(browser) == [b"0", b"1"]


async def test_a_look_that_takes_too_long_gives_what_it_has(
    dead_letters: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "_SCAN_SECONDS", -1.0)
    async with browse_queue() as browser:
        assert await read_bodies(browser) == [b"0"]


async def test_a_queue_that_is_not_found_in_time_is_not_waited_for(
    dead_letters: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    await expect_deadline(dead_letters, monkeypatch, f"declare {DLQ}")


async def test_a_queue_without_a_leader_is_waited_for_until_a_deadline(
    dead_letters: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found and delivers to nobody, and whoever wants to look next waits behind this one."""
    await expect_deadline(dead_letters, monkeypatch, "consume")


async def expect_deadline(rabbitmq: FakeRabbitmq, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    monkeypatch.setattr(messages, "CONNECT_SECONDS", 0.02)
    rabbitmq.withhold_answer(operation)

    async def read_queue() -> None:
        async with browse_queue() as browser:
            await read_bodies(browser)

    with pytest.raises(TimeoutError):
        await read_queue()
    assert all(channel.is_closed for channel in rabbitmq.channels)
