"""Adoption, drift, plan mode, deletion, conflicts: tables of actions, conditions and events."""

from datetime import timedelta
from typing import Any

import pytest
from caravan_operator.reconcile.admission import check_admission, find_conflict
from caravan_operator.reconcile.decide import Decision, make_decision
from caravan_operator.reconcile.deletion import decide_removal, decide_without_broker
from caravan_operator.reconcile.diff import Diff, LastApplied, Problem, Removal
from caravan_operator.reconcile.kafka_topic import DeleteTopic, compute_diff, parse_topic
from caravan_operator.resources import CLAIM_ANNOTATION, FORCE_FINALIZE_ANNOTATION, PAUSED_ANNOTATION
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import Condition, summarize_ready
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import build_status_patch, list_transition_events

from tests.operator.brokers_in_memory import KafkaInMemory
from tests.operator.resources import START, make_resource

CREATED = {"origin": "Created", "appliedGeneration": 1}
WAIT = timedelta(minutes=10)


def decide_topic(
    declared: Resource, state: tuple[int, int, dict[str, str]] | None, *, applied: bool = False
) -> Decision:
    broker = KafkaInMemory()
    if state is not None:
        broker.topics["orders"] = state
    topic_state = broker.read_state("orders")
    return make_decision(
        declared,
        compute_diff(parse_topic(declared), topic_state, LastApplied.from_resource(declared)),
        topic_state is not None,
        after_apply=applied,
    )


def get_ready_reason(decision: Decision) -> Reason:
    return summarize_ready(decision.conditions).reason


@pytest.mark.parametrize(
    ("policy", "state", "reason", "acts"),
    [
        ("Refuse", (3, 1, {"retention.ms": "1000"}), Reason.ALREADY_EXISTS, False),
        ("IfEqual", (3, 1, {"retention.ms": "1000", "flush.ms": "9"}), Reason.READY, False),
        ("IfEqual", (3, 1, {}), Reason.NOT_EQUAL, False),
        ("IfEqual", (4, 1, {"retention.ms": "1000"}), Reason.NOT_EQUAL, False),
        ("Adopt", (3, 1, {"retention.ms": "1000"}), Reason.READY, False),
        ("Adopt", (3, 1, {}), None, True),
    ],
)
@pytest.mark.parametrize("ownership", ["Listed", "All"])
def test_adoption(
    policy: str, state: tuple[int, int, dict[str, str]], reason: Reason | None, acts: bool, ownership: str
) -> None:
    decision = decide_topic(
        make_resource(adoptionPolicy=policy, config={"retention": "1s"}, configOwnership=ownership), state
    )
    assert bool(decision.actions) == acts
    assert all("flush.ms" not in action.summary for action in decision.actions)
    if reason is not None:
        assert get_ready_reason(decision) is reason
        assert ("origin" in decision.status_fields) == (reason is Reason.READY)


def test_all_resets_what_an_adopted_topic_had_only_after_the_next_change_of_the_spec() -> None:
    status = {"origin": "Adopted", "adoptedGeneration": 1, "appliedGeneration": 1}
    state = (3, 1, {"flush.ms": "9"})
    assert decide_topic(make_resource(configOwnership="All", status=status), state).actions == ()
    assert [
        each.summary
        for each in decide_topic(make_resource(configOwnership="All", status=status, generation=2), state).actions
    ] == ["reset flush.ms of topic orders from 9 to the cluster's default"]


def test_a_creation_is_claimed_first_and_recognised_after_a_crash() -> None:
    assert decide_topic(make_resource(), None).needs_claim
    back = make_resource(
        adoptionPolicy="Refuse", annotations={CLAIM_ANNOTATION: "uid-shop-orders"}, config={"retention": "2s"}
    )
    assert decide_topic(back, (3, 1, {"retention.ms": "1000"})).actions, (
        "its own half-finished work is not somebody else's object"
    )
    copied = make_resource(adoptionPolicy="Refuse", annotations={CLAIM_ANNOTATION: "uid-of-another-cluster"})
    assert get_ready_reason(decide_topic(copied, (3, 1, {}))) is Reason.ALREADY_EXISTS


@pytest.mark.parametrize(("policy", "acts"), [("Correct", True), ("Report", False)])
def test_drift(policy: str, acts: bool) -> None:
    decision = decide_topic(
        make_resource(driftPolicy=policy, config={"retention": "1s"}, status=CREATED), (3, 1, {"retention.ms": "5"})
    )
    assert bool(decision.actions) == acts
    assert decision.has_drift
    if not acts:
        assert decision.status_fields["drift"] == ["set retention.ms of topic orders from 5 to 1000"]
        assert get_ready_reason(decision) is Reason.DRIFT_REPORTED


def test_a_changed_spec_is_no_drift() -> None:
    decision = decide_topic(
        make_resource(generation=2, driftPolicy="Report", config={"retention": "1s"}, status=CREATED), (3, 1, {})
    )
    assert decision.actions
    assert not decision.has_drift


@pytest.mark.parametrize("state", [None, (3, 1, {})])
def test_plan_mode_only_says(state: Any) -> None:
    decision = decide_topic(make_resource(mode="Plan", adoptionPolicy="Adopt", config={"retention": "1s"}), state)
    assert not decision.actions
    assert not decision.needs_claim
    assert decision.status_fields["plan"]
    assert get_ready_reason(decision) is Reason.PLAN_PENDING
    assert "origin" not in decision.status_fields


def test_a_pass_that_changes_nothing_writes_nothing() -> None:
    resource = make_resource(status=dict(CREATED))
    first = decide_topic(resource, (3, 1, {}))
    patch = build_status_patch(resource, first.conditions, first.status_fields, START)
    stored = make_resource(status={**CREATED, **{name: value for name, value in patch.items() if value is not None}})
    again = decide_topic(stored, (3, 1, {}))
    assert patch
    assert build_status_patch(stored, again.conditions, again.status_fields, START + timedelta(hours=1)) == {}


def test_times_move_only_when_a_condition_flips_and_events_only_on_transitions() -> None:
    resource = make_resource(status={"conditions": []})
    bad = Condition("Synced", False, Reason.BROKER_REFUSED, "no")
    patch = build_status_patch(resource, [bad], {}, START)
    assert [event.reason for event in list_transition_events(resource, patch)] == [Reason.BROKER_REFUSED]
    stored = make_resource(status=patch)
    later = build_status_patch(
        stored, [Condition("Synced", False, Reason.BROKER_REFUSED, "still no")], {}, START + timedelta(hours=1)
    )
    assert {each["lastTransitionTime"] for each in later["conditions"]} == {"2030-01-01T00:00:00Z"}
    assert list_transition_events(stored, later) == []


@pytest.mark.parametrize(
    ("change", "finish", "reason"),
    [
        ({}, None, None),
        ({"deletionPolicy": "Retain"}, True, Reason.RETAINED),
        ({"mode": "Plan"}, True, Reason.RETAINED),
        ({"annotations": {FORCE_FINALIZE_ANNOTATION: "yes"}}, True, Reason.FORCED),
        ({"annotations": {PAUSED_ANNOTATION: "true"}}, False, None),
        ({"status": {}}, True, Reason.RETAINED),
        ({"finalized": False}, False, None),
    ],
)
def test_deletion_before_the_broker_is_asked(
    change: dict[str, Any], finish: bool | None, reason: Reason | None
) -> None:
    resource = make_resource(
        **{"deletionPolicy": "Delete", "finalized": True, "status": CREATED, "deleted": START, **change}
    )
    decision = decide_without_broker(resource, make_resource("KafkaConnection", "broker"), None, None, WAIT, START)
    assert (decision.remove_finalizer if decision else None) == finish
    assert reason is None or (decision is not None and decision.events[0].reason is reason)


def test_a_deletion_without_its_connection_or_with_a_shared_object_keeps_the_object() -> None:
    resource = make_resource(deletionPolicy="Delete", finalized=True, status=CREATED, deleted=START)
    gone = decide_without_broker(resource, None, None, None, WAIT, START)
    shared = decide_without_broker(
        resource, make_resource("KafkaConnection", "broker"), make_resource(name="other"), None, WAIT, START
    )
    assert gone
    assert gone.remove_finalizer
    assert shared
    assert shared.remove_finalizer
    assert not gone.actions
    assert not shared.actions


@pytest.mark.parametrize(("policy", "used", "waited", "acts", "finish"), [
    ("Delete", "holds records", 0, True, False),
    ("DeleteIfUnused", None, 0, True, False),
    ("DeleteIfUnused", "holds records", 0, False, False),
    ("DeleteIfUnused", "holds records", 11, False, True),
])  # fmt: skip
def test_deletion_when_the_broker_has_answered(
    policy: str, used: str | None, waited: int, acts: bool, finish: bool
) -> None:
    resource = make_resource(deletionPolicy=policy, finalized=True, status=CREATED, deleted=START)
    decision = decide_removal(
        resource, Removal((DeleteTopic("orders"),), used), WAIT, START + timedelta(minutes=waited)
    )
    assert (bool(decision.actions), decision.remove_finalizer) == (acts, finish)


def test_the_oldest_of_two_wins_and_ties_go_by_name() -> None:
    young, old = make_resource(name="a"), make_resource(name="b", age=5)
    assert find_conflict(young, [old]) == old
    assert find_conflict(old, [young]) is None
    assert find_conflict(make_resource(name="b"), [make_resource(name="a")]) == make_resource(name="a")
    assert find_conflict(make_resource(name="a"), [make_resource(name="b")]) is None
    refused = {"conditions": [{"type": "Accepted", "status": "False", "reason": "NamespaceNotAllowed"}]}
    assert find_conflict(young, [make_resource(name="b", age=5, status=refused)]) is None, (
        "who may not use the connection holds nobody up"
    )


@pytest.mark.parametrize(
    ("namespace", "allowed", "labels", "reason"),
    [
        ("shop", None, None, None),
        ("other", None, None, Reason.NAMESPACE_NOT_ALLOWED),
        ("other", {"from": "All"}, None, None),
        ("other", {"from": "Selector", "matchLabels": {"team": "a"}}, {"team": "a", "x": "y"}, None),
        ("other", {"from": "Selector", "matchLabels": {"team": "a"}}, {"team": "b"}, Reason.NAMESPACE_NOT_ALLOWED),
        ("other", {"from": "Selector", "matchLabels": {"team": "a"}}, None, Reason.NAMESPACE_NOT_ALLOWED),
    ],
)
def test_who_may_use_a_connection(namespace: str, allowed: Any, labels: Any, reason: Reason | None) -> None:
    connection = make_resource("KafkaConnection", "broker", **({"allowedNamespaces": allowed} if allowed else {}))
    condition = check_admission(make_resource(namespace=namespace), connection, None, labels)
    assert (condition.reason if condition else None) == reason


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [("__offsets", {}, Reason.PROTECTED), ("orders", {}, None),
     ("audit", {"protectedTopics": ["^aud"]}, Reason.PROTECTED), ("a", {"protectedTopics": ["("]}, Reason.INVALID)],
)  # fmt: skip
def test_protected_topics(name: str, spec: dict[str, Any], reason: Reason | None) -> None:
    condition = check_admission(make_resource(topicName=name), make_resource("KafkaConnection", "broker", **spec), None)
    assert (condition.reason if condition else None) == reason


def test_waiting_says_what_for() -> None:
    decision = make_decision(
        make_resource("RabbitMQBinding", source="e", destination="q"),
        Diff(missing_dependency=Problem(Reason.MISSING, "q")),
        False,
        has_dependencies=True,
    )
    assert not decision.actions
    assert get_ready_reason(decision) is Reason.MISSING
