"""A handler that doesn't fit its channels is refused where it is declared, and what fits makes a consumer of each."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from caravan.bus import DONE, IncomingMessage, Result
from caravan.clock import new_id, utc_now
from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.inbox import Inbox
from caravan.messages import Channel, Command, Delivery, Event, Exchange, Message, Queue, Topic, encode_message


class Opened(Event):
    number: int


class Closed(Event):
    number: int


class Locked(Event):
    number: int


class Close(Command):
    number: int


OPENED = Topic("opened", owner="doors", events=(Opened,), key="number", purpose="test")
ENDED = Topic("ended", owner="doors", events=(Closed, Locked), key="number", purpose="test")
CLOSE = Queue("doors.close", owner="doors", commands=(Close,), key="number", purpose="test")
GATES = Exchange(
    "doors",
    owner="doors",
    routes={"door.opened": Opened, "door.closed": Closed, "lock.locked": Locked},
    key="number",
    purpose="test",
)


def test_one_handler_reads_several_channels_each_with_its_own_types() -> None:
    consume = Consumers("alarm", linger=0.2)

    @consume(ENDED, CLOSE, GATES.bind("alarm", "door.*"), batch=7)
    async def watch_gates(
        _: Any, uow: UnitOfWork, deliveries: list[Delivery[Opened | Closed | Locked | Close]]
    ) -> None:
        return None

    assert [(c.subscription.name, tuple(c.accepted_types.values())) for c in consume.handlers] == [
        ("alarm.ended", (Closed, Locked)),
        ("doors.close", (Close,)),
        ("alarm.doors", (Opened, Closed)),
    ]
    for consumer in consume.handlers:
        assert (consumer.handler, consumer.is_batch, consumer.is_effect) == (watch_gates, True, False)
        assert (consumer.subscription.batch, consumer.subscription.linger) == (7, 0.2)


def test_a_base_class_takes_all_that_is_made_from_it() -> None:
    consume = Consumers("alarm")

    @consume.effect(ENDED)
    async def watch_gates(_: Any, delivery: Delivery[Event]) -> None:
        return None

    assert [(c.is_batch, c.is_effect) for c in consume.handlers] == [(False, True)]


async def take_opened(context: Any, uow: UnitOfWork, delivery: Delivery[Opened]) -> None: ...


async def take_closed(context: Any, uow: UnitOfWork, deliveries: list[Delivery[Closed]]) -> None: ...


async def take_both(context: Any, uow: UnitOfWork, delivery: Delivery[Opened | Closed]) -> None: ...


async def take_anything(context: Any, uow: UnitOfWork, delivery: Delivery[Any]) -> None: ...


async def take_number(context: Any, uow: UnitOfWork, number: int) -> None: ...


async def take_unannotated(context, uow, delivery):  # type: ignore[no-untyped-def]
    ...


@pytest.mark.parametrize(
    ("declare", "handler", "reason"),
    [
        (lambda c: c(ENDED), take_closed, "ended carries {Locked}, which it does not take"),
        (lambda c: c(OPENED, ENDED), take_both, "ended carries {Locked}, which it does not take"),
        (lambda c: c(OPENED), take_both, "it takes {Closed}, which none of its channels carries (opened)"),
        (
            lambda c: c(OPENED, GATES.bind("alarm", "door.opened")),
            take_both,
            "it takes {Closed}, which none of its channels carries (opened, doors)",
        ),
        (
            lambda c: c(GATES.bind("alarm", "door.clsed")),
            take_closed,
            "it takes {Closed}, which none of its channels carries (doors)",
        ),
        (lambda c: c(GATES.bind("alarm", "door.*")), take_closed, "doors carries {Opened}, which it does not take"),
        (lambda c: c(), take_opened, "it takes {Opened}, which none of its channels carries ()"),
        (
            lambda c: c(OPENED, ignores=(Closed,)),
            take_opened,
            "it ignores {Closed}, which none of its channels declares (opened)",
        ),
        (
            lambda c: c(OPENED, ignores=(Opened,)),
            take_opened,
            "it takes {Opened}, which none of its channels carries (opened)",
        ),
        (lambda c: c(OPENED, OPENED), take_opened, "opened has a handler already"),
        (lambda c: c(OPENED), take_anything, "its Delivery[...] names typing.Any, which is no class of messages"),
        (
            lambda c: c(OPENED),
            take_number,
            "its last parameter is <class 'int'>; expected Delivery[...] or list[Delivery[...]]",
        ),
        (
            lambda c: c(OPENED),
            take_unannotated,
            "its last parameter is None; expected Delivery[...] or list[Delivery[...]]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    declare: Callable[[Consumers], Callable[[Any], Any]], handler: Any, reason: str
) -> None:
    consume = Consumers("alarm")
    with pytest.raises(TypeError) as refusal:
        declare(consume)(handler)
    types = {each.__name__: each.type for each in (Opened, Closed, Locked)}
    assert str(refusal.value) == f"service alarm, handler {handler.__name__}: {reason.format(**types)}"
    assert consume.handlers == []


def test_a_channel_has_one_handler_in_a_service() -> None:
    consume = Consumers("alarm")
    consume(OPENED)(take_opened)
    with pytest.raises(TypeError, match="service alarm, handler take_opened: opened has a handler already"):
        consume(OPENED)(take_opened)


async def test_what_is_ignored_counts_as_handled_and_what_is_unknown_does_not() -> None:
    consume = Consumers("alarm")
    handled: list[Message] = []

    @consume.effect(GATES.bind("alarm", "door.closed"), ignores=(Opened,))
    async def handle_closed(_: Any, delivery: Delivery[Closed]) -> None:
        handled.append(delivery.message)

    context: Any = SimpleNamespace(service="alarm")
    inbox = Inbox(consume.handlers[0], context)
    batch = [make_incoming(GATES, message) for message in (Opened(number=1), Closed(number=2), Locked(number=3))]
    results = await inbox.process_batch(batch)
    assert handled == [Closed(number=2)]
    assert results[:2] == [DONE, DONE]
    assert results[2].result is Result.DEAD
    assert "this reader takes" in results[2].reason


def make_incoming(channel: Channel, message: Message) -> IncomingMessage:
    outgoing = encode_message(
        message, channel, key="1", source="doors", time=utc_now(), traceparent=None, actor=None, message_id=new_id()
    )
    return IncomingMessage(outgoing.key, outgoing.body, 1)
