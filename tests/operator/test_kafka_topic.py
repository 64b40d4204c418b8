"""KafkaTopic: the plan converges, is idempotent, and never takes more than the spec names."""

from dataclasses import replace
from typing import Any

import pytest
from caravan_operator.reconcile.diff import LastApplied
from caravan_operator.reconcile.kafka_topic import (
    AddPartitions,
    AlterConfig,
    CreateTopic,
    DeleteTopic,
    Setting,
    Topic,
    compute_diff,
    is_same_value,
    parse_topic,
    plan_removal,
)
from caravan_operator.status.reasons import Reason
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.brokers_in_memory import DEFAULTS, KafkaInMemory
from tests.operator.resources import make_resource

SETTINGS = st.dictionaries(st.sampled_from(sorted(DEFAULTS)), st.sampled_from(["1", "2", "3"]))
TOPICS = st.builds(
    Topic,
    name=st.just("orders"),
    partitions=st.integers(1, 9),
    replicas=st.sampled_from([None, 1]),
    may_grow=st.booleans(),
    config=st.dictionaries(st.sampled_from([*sorted(DEFAULTS), "no.such.setting"]), st.sampled_from(["1", "2", None])),
    owns_all=st.booleans(),
)
MEMORIES = st.builds(
    LastApplied, config_keys=st.frozensets(st.sampled_from(sorted(DEFAULTS))), just_adopted=st.booleans()
)
BROKERS = st.none() | st.tuples(st.integers(1, 9), st.just(1), SETTINGS)


def make_kafka(state: Any) -> KafkaInMemory:
    broker = KafkaInMemory()
    if state is not None:
        broker.topics["orders"] = (state[0], state[1], dict(state[2]))
    return broker


@given(TOPICS, BROKERS, MEMORIES)
def test_a_plan_applied_leaves_nothing_to_plan(desired: Topic, state: Any, last_applied: LastApplied) -> None:
    desired = replace(desired, config={key: value for key, value in desired.config.items() if key in DEFAULTS})
    broker = make_kafka(state)
    broker.apply_actions(compute_diff(desired, broker.read_state("orders"), last_applied).actions)
    assert compute_diff(desired, broker.read_state("orders"), last_applied).actions == ()


@given(TOPICS, BROKERS, MEMORIES)
def test_nothing_is_taken_that_the_spec_does_not_name(desired: Topic, state: Any, last_applied: LastApplied) -> None:
    broker = make_kafka(state)
    before = broker.read_state("orders")
    for action in compute_diff(desired, before, last_applied).actions:
        match action:
            case CreateTopic():
                assert before is None
            case AddPartitions():
                assert desired.may_grow
                assert before is not None
                assert action.total > before.partitions
            case AlterConfig(key=key, value=None):
                assert key not in desired.config
                assert key in last_applied.config_keys or (desired.owns_all and not last_applied.just_adopted)
            case AlterConfig(key=key, value=value):
                assert desired.config[key] == value
            case _:
                pytest.fail(f"{action} is not a topic's repair")


@given(TOPICS, BROKERS, MEMORIES)
def test_what_is_null_in_the_spec_is_never_touched(desired: Topic, state: Any, last_applied: LastApplied) -> None:
    broker = make_kafka(state)
    if state is not None:
        touched = {
            action.key
            for action in compute_diff(desired, broker.read_state("orders"), last_applied).actions
            if isinstance(action, AlterConfig)
        }
        assert not touched & {key for key, value in desired.config.items() if value is None}


def test_partitions_never_shrink() -> None:
    diff = compute_diff(Topic("orders", 2, may_grow=True), make_kafka((3, 1, {})).read_state("orders"), LastApplied())
    assert diff.actions == ()
    assert [problem.reason for problem in diff.problems] == [Reason.PARTITIONS_SHRINK]


def test_partitions_grow_only_when_allowed() -> None:
    state = make_kafka((3, 1, {})).read_state("orders")
    assert (
        compute_diff(Topic("orders", 6), state, LastApplied()).problems[0].reason
        is Reason.PARTITION_INCREASE_NOT_ALLOWED
    )
    assert compute_diff(Topic("orders", 6, may_grow=True), state, LastApplied()).actions == (
        AddPartitions("orders", 3, 6),
    )


def test_a_setting_that_left_the_spec_goes_back_to_the_default() -> None:
    state = make_kafka((3, 1, {"retention.ms": "5", "flush.ms": "7"})).read_state("orders")
    diff = compute_diff(Topic("orders", 3), state, LastApplied(config_keys=frozenset({"retention.ms"})))
    assert diff.actions == (AlterConfig("orders", "retention.ms", "5", None),)


def test_the_order_of_cleanup_policies_is_no_difference() -> None:
    desired = Topic("orders", 3, config={"cleanup.policy": "compact,delete"})
    assert (
        compute_diff(
            desired, make_kafka((3, 1, {"cleanup.policy": "delete,compact"})).read_state("orders"), LastApplied()
        ).actions
        == ()
    )


def test_an_unknown_setting_and_other_replicas_are_reported() -> None:
    diff = compute_diff(
        Topic("orders", 3, replicas=3, config={"nope": "1"}), make_kafka((3, 1, {})).read_state("orders"), LastApplied()
    )
    assert [problem.reason for problem in diff.problems] == [Reason.UNKNOWN_SETTING, Reason.REPLICAS_DIFFER]


def test_words_of_the_spec_become_kafkas() -> None:
    topic = parse_topic(
        make_resource(
            config={
                "retention": "168h",
                "retentionBytes": -1,
                "cleanupPolicy": "compact",
                "minInsyncReplicas": 2,
                "compressionType": None,
            },
            extraConfig={"flush.ms": "100", "flush.messages": None},
        )
    )
    assert topic.config == {
        "retention.ms": "604800000",
        "retention.bytes": "-1",
        "cleanup.policy": "compact",
        "min.insync.replicas": "2",
        "compression.type": None,
        "flush.ms": "100",
        "flush.messages": None,
    }
    assert parse_topic(make_resource(config={"retention": "unlimited"})).config == {"retention.ms": "-1"}
    assert parse_topic(make_resource(name="a", topicName="b")).name == "b"


def test_a_topic_with_records_is_in_use() -> None:
    state = make_kafka((3, 1, {})).read_state("orders")
    assert state is not None
    assert plan_removal(Topic("orders", 3), replace(state, empty=True)).in_use_reason is None
    for empty in (None, False):
        removal = plan_removal(Topic("orders", 3), replace(state, empty=empty))
        assert removal.in_use_reason
        assert removal.actions == (DeleteTopic("orders"),)


@given(
    st.one_of(
        st.integers(-(2**63), 2**63 - 1).flatmap(
            lambda n: st.tuples(
                st.just(str(n)), st.sampled_from([f" {n} ", f"{n:+d}", f"{'-' if n < 0 else ''}0{abs(n)}"])
            )
        ),
        st.integers(0, 1000).flatmap(
            lambda n: st.tuples(
                st.just(str(n / 1000)), st.sampled_from([f"{n / 1000:.6f}", f"{n / 1000:e}", f"{n / 1000:.4f}d"])
            )
        ),
        st.sampled_from(["true", "false"]).flatmap(
            lambda word: st.tuples(st.just(word), st.sampled_from([word.upper(), word.title(), f" {word}"]))
        ),
        st.permutations(["compact", "delete"]).map(lambda parts: (",".join(parts), " , ".join(reversed(parts)))),
        st.just(("compact", "compact,")),
    )
)
def test_a_setting_that_is_spelt_otherwise_is_no_difference(spellings: tuple[str, str]) -> None:
    printed, written = spellings
    assert is_same_value(Setting(printed, True), written)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_another_number_is_a_difference(one: int, other: int) -> None:
    assert is_same_value(Setting(str(one), True), str(other)) == (one == other)


def test_a_value_that_the_broker_hides_is_set_once() -> None:
    assert is_same_value(Setting(None, True), "secret")
    assert not is_same_value(Setting(None, False), "secret")
