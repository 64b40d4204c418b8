"""Messages on the wire: an envelope is read as it was written, and everything else is refused with its rule."""

from typing import Any
from uuid import uuid4

import orjson
import pytest

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
    build_routing_regex,
    decode_message,
    encode_message,
    list_message_types,
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
    message_id, time = new_id(), utc_now()
    sent = encode(
        TeaPoured(cup="blue"), TEA_POURED, message_id=message_id, time=time, actor="customer:1", causation_id="c"
    )
    read = decode_message(sent.body, TYPES, attempt=3)
    assert read.message == TeaPoured(cup="blue")
    assert (read.id, read.key, read.time, read.actor, read.attempt) == (message_id, "blue", time, "customer:1", 3)
    envelope = orjson.loads(sent.body)
    assert (envelope["specversion"], envelope["source"], envelope["dataversion"]) == ("1.0", "/caravan/kitchen", 2)


@pytest.mark.parametrize(
    ("message", "channel", "route"),
    [(TeaPoured(cup="a"), TEA_POURED, ""), (PourTea(cup="a"), POUR_TEA, ""), (TeaPoured(cup="a"), TEA, "tea.poured")],
    ids=["topic", "queue", "exchange"],
)
def test_a_message_goes_to_the_channel_that_declares_it(
    message: Event | Command, channel: Topic | Queue | Exchange, route: str
) -> None:
    assert encode(message, channel)[:4] == (type(channel).__name__.lower(), channel.name, route, "blue")
    assert list_message_types(channel) == (type(message),)


@pytest.mark.parametrize("channel", [POUR_TEA, Exchange("x", owner="kitchen", routes={}, key="-", purpose="A test's.")])
def test_a_channel_takes_nothing_that_it_does_not_declare(channel: Queue | Exchange) -> None:
    with pytest.raises(TypeError, match="is not declared on"):
        encode(TeaPoured(cup="a"), channel)


def test_a_message_that_no_broker_takes_is_not_written() -> None:
    with pytest.raises(MessageTooLarge, match="over the limit"):
        encode(TeaPoured(cup="x" * MAX_BYTES), TEA_POURED)


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


@pytest.mark.parametrize(
    ("pattern", "key", "fits"),
    [("order.*", "order.created", True), ("order.*", "order.created.late", False), ("#", "order.created.late", True)],
)
def test_a_binding_takes_the_routes_of_its_pattern(pattern: str, key: str, fits: bool) -> None:
    import re

    assert bool(re.fullmatch(build_routing_regex(pattern), key)) is fits
