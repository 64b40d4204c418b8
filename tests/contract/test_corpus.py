"""What yesterday's code sent and stored is read by today's: recorded envelopes by every consumer of their type,
recorded streams by the event store.
"""

from functools import cache
from pathlib import Path

import jsonschema
import orjson
import pytest
from pydantic import ValidationError

from caravan.consumers import Consumer
from caravan.events import EventStore, Upcast
from caravan.messages import Event, MalformedMessage, Message, decode_message
from caravan.money import Money
from caravan.runtime import list_consumers
from services.gateway.reference.asyncapi import ENVELOPE
from services.orders.messages import OrderCreated
from services.orders.model import EVENT_STORE, Order, PaymentFailed, fold_events
from services.registry import load_services
from tests.contract.record import CORPUS, STREAMS
from tools.message_schemas import WITHDRAWN, list_sent_types, list_stored_types, load_published

FILES = sorted(CORPUS.glob("*.jsonl"))
MESSAGE_TYPES = {kind.type: kind for kind in list_sent_types()}
SCHEMAS = load_published()
RECORD = "run `python -m tests.contract.record`"


def is_withdrawn(path: Path) -> bool:
    """A version that is read and never sent again: no schema promises it."""
    name, _, version = path.stem.rpartition(".v")
    return int(version) <= WITHDRAWN.get(name, 0)


@cache
def load_consumers() -> list[Consumer]:
    return [consumer for service in load_services() for consumer in list_consumers(service)]


def read_envelopes(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_every_version_of_every_message_is_recorded() -> None:
    expected = {f"{kind.type}.v{version}.jsonl" for kind in list_sent_types() for version in range(1, kind.version + 1)}
    assert {path.name for path in FILES} == expected, RECORD


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_recorded_message_is_read_by_everyone_who_takes_its_type(path: Path) -> None:
    name, _, version = path.stem.rpartition(".v")
    takers: list[dict[str, type[Message]]] = [
        consumer.accepted_types for consumer in load_consumers() if name in consumer.accepted_types
    ]
    bodies = read_envelopes(path)
    assert bodies
    for body in bodies:
        assert orjson.loads(body)["dataversion"] == int(version)
        for accepted in [{name: MESSAGE_TYPES[name]}, *takers]:
            assert type(decode_message(body, accepted).message) is MESSAGE_TYPES[name]


@pytest.mark.parametrize("path", [path for path in FILES if not is_withdrawn(path)], ids=lambda path: path.stem)
def test_a_recorded_message_is_as_its_published_schema_says(path: Path) -> None:
    name, _, version = path.stem.rpartition(".v")
    check = jsonschema.Draft202012Validator(SCHEMAS[name][int(version)], format_checker=jsonschema.FormatChecker())
    for body in read_envelopes(path):
        envelope = orjson.loads(body)
        jsonschema.Draft202012Validator(ENVELOPE).validate(envelope)
        check.validate(envelope["data"])


def test_a_reader_that_needs_more_than_was_sent_is_found_out() -> None:
    class Demanding(OrderCreated):
        loyalty_number: str

    Demanding.type = OrderCreated.type
    body = read_envelopes(CORPUS / "orders.OrderCreated.v2.jsonl")[0]
    with pytest.raises(MalformedMessage, match="loyalty_number: Field required"):
        decode_message(body, {OrderCreated.type: Demanding})


def list_streams() -> list[Path]:
    return sorted(STREAMS.glob("*.json"))


def fold_stream(store: EventStore, path: Path) -> Order:
    events = orjson.loads(path.read_bytes())["events"]
    return fold_events(
        (store.decode_event(event["type"], event["data_version"], event["data"]), None) for event in events
    )


@pytest.mark.parametrize("path", list_streams(), ids=lambda path: path.stem)
def test_a_recorded_stream_folds_to_the_state_that_was_stored(path: Path) -> None:
    order, state = fold_stream(EVENT_STORE, path), orjson.loads(path.read_bytes())["state"]
    refunded = Money(amount=state["refunded"], currency=state["currency"]) if state["refunded"] is not None else None
    assert (order.status, order.version, order.cancelling) == (state["status"], state["version"], state["cancelling"])
    assert (order.reason, order.invoice_number, order.tracking_number) == (
        state["reason"],
        state["invoice_number"],
        state["tracking_number"],
    )
    assert order.refunded == refunded


def test_every_version_of_every_stored_event_is_in_a_recorded_stream() -> None:
    recorded = {
        (event["type"], event["data_version"])
        for path in list_streams()
        for event in orjson.loads(path.read_bytes())["events"]
    }
    expected = {
        (kind.type, version) for kind in EVENT_STORE.event_types.values() for version in range(1, kind.version + 1)
    }
    assert recorded == expected, RECORD


def _make_store_with(later: type[Event], upcast: Upcast | None = None) -> EventStore:
    kinds = [kind for kind in EVENT_STORE.event_types.values() if kind.type != later.type]
    return EventStore([*kinds, later], {(later.type, 1): upcast} if upcast else {})


def test_a_changed_stored_event_needs_its_upcast_to_read_what_is_stored() -> None:
    class Later(Event):
        version = 2
        why: str

    assert PaymentFailed in list_stored_types()
    Later.type = PaymentFailed.type
    path = STREAMS / "payment_failed-2.json"
    with pytest.raises(KeyError):
        fold_stream(_make_store_with(Later), path)
    with pytest.raises(ValidationError):
        fold_stream(_make_store_with(Later, lambda data: data), path)
    store = _make_store_with(Later, lambda data: {"why": data["reason"]})
    events = orjson.loads(path.read_bytes())["events"]
    read = [store.decode_event(event["type"], event["data_version"], event["data"]) for event in events]
    assert [event.why for event in read if isinstance(event, Later)] == ["card_declined"]
