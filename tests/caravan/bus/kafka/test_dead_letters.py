"""A dead letter as a record: what its headers keep, and what becomes of one whose headers somebody else wrote."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiokafka import ConsumerRecord

from caravan.bus import DEAD_LETTER_KEY_BYTES, DEAD_LETTER_MAX_BYTES, IncomingMessage
from caravan.bus.kafka.dead_letters import (
    build_dead_letter_headers,
    build_dead_letter_id,
    parse_dead_letter,
    read_record_key,
)
from caravan.clock import EPOCH
from tests.caravan.bus.kafka.fake_kafka import Headers, make_record

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
DLQ = "reader.seen.dlq"


def make_dead_record(body: bytes, reason: str = "rejected", key: str = "order-1") -> ConsumerRecord[bytes, bytes]:
    """The record that its reader writes for a message."""
    origin = make_record("seen", 7, b"order-1", body)
    headers = build_dead_letter_headers("seen", IncomingMessage(key, body, 3, origin), reason, NOW)
    return make_record(DLQ, 0, build_dead_letter_id(origin).encode(), body[:DEAD_LETTER_MAX_BYTES], headers=headers)


def test_what_is_written_of_a_message_is_read_again() -> None:
    dead_letter = parse_dead_letter(make_dead_record(b'{"number": 1}'), 1000)
    assert dead_letter.id.startswith("seen/0/7@")
    assert (dead_letter.subscription, dead_letter.channel, dead_letter.key) == ("reader.seen", "seen", "order-1")
    assert (dead_letter.body, dead_letter.size) == (b'{"number": 1}', 13)
    assert (dead_letter.reason, dead_letter.attempt, dead_letter.dead_lettered_at) == ("rejected", 3, NOW)
    assert dead_letter.redrivable


def test_a_topic_that_is_made_anew_gives_other_ids() -> None:
    """Its offsets begin at 0 again, and a later dead letter must not replace an earlier one."""
    earlier = make_record("seen", 7)
    later = replace(earlier, timestamp=earlier.timestamp + 1)
    assert build_dead_letter_id(earlier) != build_dead_letter_id(later)
    assert build_dead_letter_id(earlier) == build_dead_letter_id(make_record("seen", 7)), "written twice, it is one"


def test_a_preview_is_not_the_whole_and_can_be_redriven() -> None:
    dead_letter = parse_dead_letter(make_dead_record(b"0123456789"), 4)
    assert (dead_letter.body, dead_letter.size, dead_letter.redrivable) == (b"0123", 10, True)


def test_a_body_that_is_too_long_is_kept_in_part_with_its_hash_and_not_redriven() -> None:
    body = b"x" * (DEAD_LETTER_MAX_BYTES + 1)
    record = make_dead_record(body)
    assert dict(record.headers)["sha256"].decode() == hashlib.sha256(body).hexdigest()
    dead_letter = parse_dead_letter(record, DEAD_LETTER_MAX_BYTES)
    assert (len(dead_letter.body), dead_letter.size) == (DEAD_LETTER_MAX_BYTES, DEAD_LETTER_MAX_BYTES + 1)
    assert not dead_letter.redrivable
    assert "sha256" not in dict(make_dead_record(body[:-1]).headers), "one that is whole needs none"


def test_a_key_that_is_too_long_is_kept_in_part_and_not_redriven() -> None:
    """Else a record of 1 MiB, most of it key, could not be given up."""
    longest = "ä" * (DEAD_LETTER_KEY_BYTES // 2)
    whole, cut = (parse_dead_letter(make_dead_record(b"{}", key=key), 10) for key in (longest, longest + "x"))
    assert (whole.key, whole.redrivable) == (longest, True)
    assert (cut.key, cut.redrivable) == (longest, False)


def test_a_reason_keeps_its_beginning_only() -> None:
    assert parse_dead_letter(make_dead_record(b"{}", "r" * 5000), 10).reason == "r" * 2000


def test_a_reason_that_is_no_text_of_utf_8_is_written_all_the_same() -> None:
    """Else its message could not be given up, and its key would never go on."""
    assert parse_dead_letter(make_dead_record(b"{}", "bad name \udc80"), 10).reason == "bad name ?"


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (("attempt", b"many"), ("size", b"-3"), ("died-at", b"yesterday")),
        (("attempt", b"\xff"), ("size", b""), ("died-at", b"\xff")),
    ],
)
def test_a_record_that_somebody_else_wrote_is_shown_with_what_it_has(headers: Headers) -> None:
    dead_letter = parse_dead_letter(make_record(DLQ, 0, b"\xff", b"body", headers=headers), 100)
    assert (dead_letter.id, dead_letter.body, dead_letter.size) == ("�", b"body", 4)
    assert (dead_letter.attempt, dead_letter.reason, dead_letter.channel) == (1, "", "")
    assert dead_letter.dead_lettered_at == EPOCH
    assert dead_letter.redrivable


def test_a_time_without_a_zone_can_be_compared_with_the_others() -> None:
    """A list of dead letters is sorted by it."""
    foreign = make_record(DLQ, 0, headers=(("died-at", b"2026-03-01T12:30:00"),))
    assert parse_dead_letter(foreign, 10).dead_lettered_at == NOW


def test_a_record_without_a_key_has_an_empty_one() -> None:
    assert read_record_key(make_record(DLQ, 0, None)) == ""
