"""What a service declares wrongly is refused at once; a routing pattern takes the keys that it takes on RabbitMQ."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from caravan.messages import (
    Channel,
    Command,
    Event,
    Exchange,
    Message,
    Queue,
    RetryPolicy,
    Topic,
    build_routing_regex,
    list_message_types,
)


class TeaPoured(Event):
    cup: str


class PourTea(Command):
    cup: str


FIELDS: dict[str, Any] = {"owner": "kitchen", "key": "cup", "purpose": "A test's."}
# What mypy refuses too.
WRONG_EVENTS: Any = (TeaPoured, PourTea)
WRONG_COMMANDS: Any = (PourTea, TeaPoured)
WRONG_ROUTES: Any = {"a": PourTea}


def test_a_type_is_named_by_its_service_and_class() -> None:
    service_messages: Any = type("ParcelLost", (Event,), {"__module__": "services.shipping.messages"})
    assert service_messages.type == "shipping.ParcelLost"
    kernel_messages: Any = type("AuditRecorded", (Event,), {"__module__": "audit"})
    assert kernel_messages.type == "audit.AuditRecorded"


def test_a_message_can_not_be_changed_and_ignores_what_it_does_not_know() -> None:
    message = TeaPoured.model_validate({"cup": "blue", "sugar": 2})
    assert message == TeaPoured(cup="blue")
    with pytest.raises(ValidationError, match="frozen"):
        message.cup = "red"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("channel", "types"),
    [
        (Topic("tea-poured", events=(TeaPoured,), **FIELDS), (TeaPoured,)),
        (Queue("kitchen.pour-tea", commands=(PourTea,), **FIELDS), (PourTea,)),
        (Exchange("tea", routes={"tea.poured": TeaPoured}, **FIELDS), (TeaPoured,)),
    ],
    ids=["topic", "queue", "exchange"],
)
def test_a_channel_lists_what_it_declares(channel: Channel, types: tuple[type[Message], ...]) -> None:
    assert list_message_types(channel) == types


@pytest.mark.parametrize(
    ("declare", "refusal"),
    [
        (lambda: Topic("t", events=WRONG_EVENTS, **FIELDS), "topic t: PourTea is not an Event"),
        (lambda: Queue("q", commands=WRONG_COMMANDS, **FIELDS), "queue q: TeaPoured is not a Command"),
        (lambda: Exchange("x", routes=WRONG_ROUTES, **FIELDS), "exchange x: PourTea is not an Event"),
    ],
    ids=["topic", "queue", "exchange"],
)
def test_a_channel_of_the_wrong_messages_is_refused(declare: Callable[[], Channel], refusal: str) -> None:
    with pytest.raises(TypeError, match=refusal):
        declare()


def test_a_policy_has_an_attempt_more_than_delays() -> None:
    assert RetryPolicy().max_attempts == 6
    assert RetryPolicy(()).max_attempts == 1


def test_a_binding_is_a_queue_of_the_subscriber_with_retries_of_its_own() -> None:
    tea = Exchange("tea", routes={"tea.poured": TeaPoured}, **FIELDS)
    binding = tea.bind("billing", "tea.*", "#", retry=RetryPolicy((1.0,)))
    assert (binding.queue, binding.patterns, binding.retry.max_attempts) == ("billing.tea", ("tea.*", "#"), 2)
    assert tea.bind("billing", "tea.*").retry == RetryPolicy()


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("order.*", "order.created", True),
        ("order.*", "order", False),
        ("order.*", "order.created.late", False),
        ("order.created", "orderxcreated", False),
        ("#", "order.created.late", True),
        ("order.#", "order.created.late", True),
        ("order.#", "order", True),
        ("order.#", "orders", False),
        ("#.late", "late", True),
        ("order.#.late", "order.late", True),
        ("order.#.late", "order.created.early", False),
        ("#.#", "order", True),
    ],
)
def test_a_pattern_takes_the_keys_that_it_takes_in_amqp(pattern: str, key: str, matches: bool) -> None:
    assert bool(re.match(build_routing_regex(pattern), key)) is matches


def match_words(pattern: list[str], key: list[str]) -> bool:
    """The rule of AMQP 0-9-1, word by word."""
    match pattern:
        case []:
            return not key
        case ["#", *following]:
            return any(match_words(following, key[start:]) for start in range(len(key) + 1))
        case [word, *following]:
            return bool(key) and word in ("*", key[0]) and match_words(following, key[1:])
    raise AssertionError(pattern)


@given(
    st.lists(st.sampled_from(["a", "b", "*", "#"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "a-b"]), min_size=1, max_size=5),
)
def test_any_pattern_follows_the_rule_of_amqp(pattern: list[str], key: list[str]) -> None:
    regex = build_routing_regex(".".join(pattern))
    assert bool(re.match(regex, ".".join(key))) is match_words(pattern, key)
