"""RabbitMQ's kinds: plans converge; a queue is never dropped unless the spec allows it and nothing is in it."""

from dataclasses import replace
from typing import Any

import pytest
from caravan_operator.reconcile import RULES
from caravan_operator.reconcile.diff import LastApplied
from caravan_operator.reconcile.rabbitmq_binding import Binding, BindingState
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.reconcile.rabbitmq_exchange import Exchange
from caravan_operator.reconcile.rabbitmq_policy import Policy, encode_definition
from caravan_operator.reconcile.rabbitmq_queue import Queue, QueueState, compute_diff, plan_removal
from caravan_operator.status.reasons import Reason
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.brokers_in_memory import RabbitInMemory
from tests.operator.resources import make_resource

NAMES = st.sampled_from(["a", "a.b", "a/b", "a+b"])
LIMITS = st.dictionaries(st.sampled_from(["message-ttl", "max-length"]), st.integers(0, 5))
QUEUES = st.builds(
    Queue,
    vhost=st.sampled_from(["/", "shop"]),
    name=NAMES,
    type=st.sampled_from(["quorum", "classic"]),
    arguments=st.dictionaries(st.just("x-single-active-consumer"), st.booleans()),
    limits=LIMITS,
    recreate_if_empty=st.booleans(),
)
EXCHANGES = st.builds(
    Exchange, vhost=st.just("/"), name=NAMES, type=st.sampled_from(["topic", "direct"]), internal=st.booleans()
)
POLICIES = st.builds(
    Policy,
    vhost=st.just("/"),
    name=NAMES,
    pattern=st.sampled_from(["^a", ".*"]),
    apply_to=st.sampled_from(["all", "queues"]),
    priority=st.integers(0, 3),
    definition=LIMITS,
)
PLANS = {
    "queue": "RabbitMQQueue",
    "exchange": "RabbitMQExchange",
    "policy": "RabbitMQPolicy",
    "binding": "RabbitMQBinding",
}


def get_rules(desired: Any) -> Any:
    return RULES[PLANS[desired.identity.partition(":")[0]]]


@given(st.lists(QUEUES | EXCHANGES | POLICIES, min_size=1, max_size=6))
def test_a_plan_applied_leaves_nothing_to_plan(requests: list[Any]) -> None:
    broker = RabbitInMemory()
    for desired in requests:
        broker.apply_actions(
            get_rules(desired).compute_diff(desired, broker.read_state(desired), LastApplied()).actions
        )
        assert get_rules(desired).compute_diff(desired, broker.read_state(desired), LastApplied()).actions == ()


@given(QUEUES, QUEUES, st.integers(0, 1))
def test_a_queue_is_dropped_only_when_allowed_and_empty(before: Queue, desired: Queue, messages: int) -> None:
    before = replace(before, vhost=desired.vhost, name=desired.name)
    broker = RabbitInMemory()
    broker.apply_actions(compute_diff(before, None, LastApplied()).actions)
    broker.objects["queues", desired.vhost, desired.name]["messages"] = messages
    diff = compute_diff(desired, broker.read_state(desired), LastApplied())
    dropped = [
        action
        for action in diff.actions
        if isinstance(action, Call) and action.method == "DELETE" and "/queues/" in action.path
    ]
    different = (before.type, before.arguments) != (desired.type, desired.arguments)
    assert bool(dropped) == (different and desired.recreate_if_empty and messages == 0)
    assert any(problem.reason is Reason.IMMUTABLE_DRIFT for problem in diff.problems) == (different and not dropped)


@given(QUEUES)
def test_a_removal_leaves_nothing_behind(desired: Queue) -> None:
    broker = RabbitInMemory()
    broker.apply_actions(compute_diff(desired, None, LastApplied()).actions)
    broker.apply_actions(plan_removal(desired, broker.read_state(desired)).actions)
    assert broker.objects == {}


def test_limits_hold_before_the_first_message() -> None:
    lines = [
        action.summary
        for action in compute_diff(Queue("/", "q", limits={"max-length": 5}), None, LastApplied()).actions
    ]
    assert lines == ["create policy caravan.queue.q", "create quorum queue q"]


def test_the_policy_of_a_queue_applies_to_no_other() -> None:
    policy = Queue("/", "a.b+c", limits={"max-length": 5}).limits_policy
    assert policy is not None
    assert policy.pattern == r"^a\.b\+c$"


def test_somebody_elses_policy_is_reported() -> None:
    desired = Queue("/", "q", limits={"max-length": 5})
    state = QueueState("quorum", True, False, {}, effective_policy="theirs", policy=desired.limits_policy)
    diff = compute_diff(desired, state, LastApplied())
    assert diff.problems[0].reason is Reason.POLICY_CONFLICT
    assert diff.status_fields["policyConflict"] == "theirs"


def test_an_argument_that_beats_the_policy_is_reported() -> None:
    state = QueueState("quorum", True, False, {"x-queue-type": "quorum", "x-message-ttl": 1})
    assert "x-message-ttl is 1, not None" in compute_diff(Queue("/", "q"), state, LastApplied()).problems[0].message


@pytest.mark.parametrize(
    ("messages", "consumers", "used"), [(0, 0, False), (1, 0, True), (0, 1, True), (None, None, True)]
)
def test_a_queue_with_messages_or_consumers_is_in_use(messages: int | None, consumers: int | None, used: bool) -> None:
    state = QueueState("quorum", True, False, {}, messages=messages, consumers=consumers)
    assert bool(plan_removal(Queue("/", "q"), state).in_use_reason) == used


def test_a_binding_waits_for_both_ends_and_comes_back_with_them() -> None:
    broker, desired = RabbitInMemory(), Binding("/", "e", "q", routing_key="a.*")
    assert (
        "exchange:/:e and queue:/:q"
        in get_rules(desired)
        .compute_diff(desired, broker.read_state(desired), LastApplied())
        .missing_dependency.message
    )
    for end in (Exchange("/", "e"), Queue("/", "q")):
        broker.apply_actions(get_rules(end).compute_diff(end, broker.read_state(end), LastApplied()).actions)
    broker.apply_actions(get_rules(desired).compute_diff(desired, broker.read_state(desired), LastApplied()).actions)
    assert get_rules(desired).compute_diff(desired, broker.read_state(desired), LastApplied()).actions == ()
    assert (
        get_rules(desired)
        .plan_removal(desired, BindingState(properties_key="a.%2A"))
        .actions[0]
        .path.endswith("/a.%252A")
    )


def test_policies_are_written_as_rabbitmq_reads_them() -> None:
    definition = encode_definition(
        {"messageTtl": "1m30s", "deadLetterExchange": "", "maxLength": 5, "extra": {"max-age": "1D"}}
    )
    assert definition == {"message-ttl": 90000, "dead-letter-exchange": "", "max-length": 5, "max-age": "1D"}


def test_a_queue_reads_its_resource() -> None:
    queue = RULES["RabbitMQQueue"].parse_spec(
        make_resource("RabbitMQQueue", "q", arguments={"singleActiveConsumer": True}, limits={"messageTtl": "1s"})
    )
    assert queue == Queue("/", "q", arguments={"x-single-active-consumer": True}, limits={"message-ttl": 1000})
