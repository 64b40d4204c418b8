"""What a topology consists of, and how its objects are named, ranked and missed."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.bus.topology import (
    NotDeclared,
    ObjectRef,
    RabbitBinding,
    RabbitExchange,
    RabbitQueue,
    Topology,
)


@given(st.text(min_size=1, max_size=30), st.text(min_size=1, max_size=30))
def test_the_policy_of_a_queue_matches_that_queue_alone_whatever_its_name(name: str, other: str) -> None:
    pattern = RabbitQueue(name, {}).limits_policy.pattern
    assert re.search(pattern, name)
    assert bool(re.search(pattern, other)) is (other in (name, f"{name}\n"))


def test_a_queue_is_made_after_its_policy_and_a_binding_after_both_its_ends() -> None:
    declared = Topology(
        exchanges=(RabbitExchange("x"),), queues=(RabbitQueue("q", {}),), bindings=(RabbitBinding("x", "q", "#"),)
    )
    assert [ref.kind for ref in declared.rabbitmq_objects] == ["policy", "exchange", "queue", "binding"]


def test_two_bindings_of_one_queue_are_two_objects() -> None:
    patterns = ("a.*", "b.*")
    declared = Topology(bindings=tuple(RabbitBinding("x", "q", pattern) for pattern in patterns))
    assert len(declared.rabbitmq_objects) == len(patterns)


def test_limits_are_the_policys_and_arguments_are_the_queues_own_properties() -> None:
    queue = RabbitQueue("q", {"max-length": 5}, {"x-queue-type": "quorum"})
    assert queue.properties == {"x-queue-type": "quorum", "policy": "caravan.queue.q"}
    assert queue.limits_policy.properties["max-length"] == 5


@pytest.mark.parametrize(("count", "ending"), [(1, "topic t0)"), (5, "topic t4)"), (6, "topic t4, ...)")])
def test_an_error_names_the_first_five_missing_objects_and_their_number(count: int, ending: str) -> None:
    error = NotDeclared([ObjectRef("topic", f"t{number}") for number in range(count)])
    assert str(error).startswith(f"{count} topics, queues or exchanges are missing (topic t0")
    assert ending in str(error)
