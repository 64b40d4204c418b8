"""Messages on the wire: an envelope is read as it was written, and everything else is refused with its rule."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.clock import new_id, utc_now
from caravan.messages import (
    MAX_BYTES,
    Command,
    Event,
    Exchange,
    MalformedMessage,
    MessageTooLarge,
    OutgoingMessage,
    Queue,
    Topic,
    decode_message,
    encode_message,
)


class TeaPoured(Event):
    version = 2
    cup: str


class PourTea(Command):
    cup: str


TEA_POURED = Topic("tea-poured", owner="kitchen", events=(TeaPoured,), key="cup", purpose="A test's.")
POUR_TEA = Queue("kitchen.pour-tea", owner="kitchen", commands=(PourTea,), key="cup", purpose="A test's.")
TEA = Exchange("tea", owner="kitchen", routes={"tea.poured": TeaPoured}, key="cup", purpose="A test's.")
TYPES = {TeaPoured.type: TeaPoured}
MOMENT = datetime(2026, 11, 29, 12, 0, 0, 1, tzinfo=UTC)


def encode(message: Event | Command, channel: Topic | Queue | Exchange, **more: Any) -> OutgoingMessage:
    fields: dict[str, Any] = {
        "key": "blue",
        "source": "kitchen",
        "time": utc_now(),
        "traceparent": None,
        "actor": None,
        **more,
    }
    return encode_message(message, channel, **fields)


def spoil(**fields: object) -> bytes:
    """An envelope with other fields."""
    return orjson.dumps({**orjson.loads(encode(TeaPoured(cup="blue"), TEA_POURED).body), **fields})


def test_what_is_written_is_read_as_it_was() -> None:
    message_id, time, cause = new_id(), utc_now(), new_id()
    sent = encode(
        TeaPoured(cup="blue"), TEA_POURED, message_id=message_id, time=time, actor="customer:1", causation_id=str(cause)
    )
    read = decode_message(sent.body, TYPES, attempt=3)
    assert read.message == TeaPoured(cup="blue")
    assert (read.id, read.key, read.time, read.actor, read.attempt) == (message_id, "blue", time, "customer:1", 3)
    assert read.causation_id == cause
    envelope = orjson.loads(sent.body)
    assert (envelope["specversion"], envelope["source"], envelope["dataversion"]) == ("1.0", "/caravan/kitchen", 2)


@pytest.mark.parametrize("cause", ["c", "", None, 7, ["x"]])
def test_a_foreign_cause_that_is_no_id_does_not_make_a_message_unreadable(cause: object) -> None:
    read = decode_message(spoil(causationid=cause), TYPES, attempt=1)
    assert (read.message, read.causation_id) == (TeaPoured(cup="blue"), None)


@pytest.mark.parametrize(
    ("message", "channel", "route"),
    [(TeaPoured(cup="a"), TEA_POURED, ""), (PourTea(cup="a"), POUR_TEA, ""), (TeaPoured(cup="a"), TEA, "tea.poured")],
    ids=["topic", "queue", "exchange"],
)
def test_a_message_goes_to_the_channel_that_declares_it(
    message: Event | Command, channel: Topic | Queue | Exchange, route: str
) -> None:
    assert encode(message, channel)[:4] == (type(channel).__name__.lower(), channel.name, route, "blue")


@pytest.mark.parametrize(
    "channel",
    [
        POUR_TEA,
        Topic("x", owner="kitchen", events=(), key="-", purpose="A test's."),
        Exchange("x", owner="kitchen", routes={}, key="-", purpose="A test's."),
    ],
    ids=["queue", "topic", "exchange"],
)
def test_a_channel_takes_nothing_that_it_does_not_declare(channel: Topic | Queue | Exchange) -> None:
    with pytest.raises(TypeError, match="is not declared on"):
        encode(TeaPoured(cup="a"), channel)


def test_a_message_that_no_broker_takes_is_not_written_and_the_largest_is_read() -> None:
    largest = MAX_BYTES - len(encode(TeaPoured(cup=""), TEA_POURED, time=MOMENT).body)
    body = encode(TeaPoured(cup="x" * largest), TEA_POURED, time=MOMENT).body
    assert len(body) == MAX_BYTES
    assert decode_message(body, TYPES).message.cup == "x" * largest
    with pytest.raises(MessageTooLarge, match=r"TeaPoured for blue is 900001 bytes, over the limit of 900000"):
        encode(TeaPoured(cup="x" * (largest + 1)), TEA_POURED, time=MOMENT)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (b"x" * (MAX_BYTES + 1), "over the limit"),
        (b"{", "not JSON"),
        (b"[]", "no envelope"),
        (spoil(type="kitchen.Other"), "unknown type"),
        (spoil(dataversion=3), "newer than this reader"),
        (spoil(data={}), "cup: Field required"),
        (spoil(id="x"), "no envelope"),
        (spoil(time="yesterday"), "no envelope"),
    ],
)
def test_what_is_no_message_is_refused_with_the_rule_that_it_breaks(body: bytes, rule: str) -> None:
    with pytest.raises(MalformedMessage, match=rule):
        decode_message(body, TYPES)


def test_an_unknown_field_is_ignored_and_an_older_version_read() -> None:
    body = spoil(id=str(uuid4()), data={"cup": "blue", "sugar": 2}, dataversion=1)
    assert decode_message(body, TYPES).message == TeaPoured(cup="blue")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
MOMENTS = st.datetimes(timezones=st.timedeltas(timedelta(hours=-14), timedelta(hours=14)).map(timezone))


@given(cup=TEXTS, key=TEXTS, time=MOMENTS, actor=st.none() | TEXTS.filter(bool))
def test_any_text_and_time_comes_back(cup: str, key: str, time: datetime, actor: str | None) -> None:
    read = decode_message(encode(TeaPoured(cup=cup), TEA_POURED, key=key, time=time, actor=actor).body, TYPES)
    assert (read.message.cup, read.key, read.time, read.actor) == (cup, key, time, actor)


def test_what_nobody_said_is_not_in_the_envelope() -> None:
    envelope = orjson.loads(encode(TeaPoured(cup="blue"), TEA_POURED).body)
    assert envelope.keys().isdisjoint({"traceparent", "actor", "causationid"})
    assert envelope["time"].endswith("Z")


def test_a_shared_message_is_validated_once_and_has_the_attempt_of_each_reader() -> None:
    body = encode(TeaPoured(cup="blue"), TEA_POURED).body
    first = decode_message(body, TYPES, attempt=4)
    again = decode_message(body, TYPES)
    assert again.message is first.message
    assert (first.attempt, again.attempt) == (4, 1)
    assert decode_message(body, TYPES, shared=False).message is not first.message


def test_a_reader_gets_a_shared_message_as_the_class_that_it_accepts() -> None:
    class OtherTeaPoured(Event):
        cup: str
        version = 2

    body = encode(TeaPoured(cup="blue"), TEA_POURED).body
    assert type(decode_message(body, TYPES).message) is TeaPoured
    assert type(decode_message(body, {TeaPoured.type: OtherTeaPoured}).message) is OtherTeaPoured
    with pytest.raises(MalformedMessage, match="unknown type"):
        decode_message(body, {})
