"""What the declarations of all services need of the brokers."""

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.bus import Subscription
from caravan.bus.topology import BrokerObject, ObjectRef, build_topology
from caravan.bus.topology.drift import DriftKind, find_differences
from caravan.messages import Exchange, Queue, RetryPolicy, Topic
from cli.topology import build_declared_topology
from tests.contract.bus_messages import Happened, Ping

ONLY_BY_ARGUMENT = {"x-queue-type", "x-single-active-consumer"}
"""What no policy can say: https://www.rabbitmq.com/docs/parameters#policies"""

names = st.text("abcdefgh-.", min_size=1, max_size=20)
retries = st.builds(RetryPolicy, st.lists(st.floats(0.01, 3600), max_size=4).map(tuple))
topics = st.builds(
    lambda name, partitions, retry: Topic(name, "test", (Happened,), "id", "test", partitions=partitions, retry=retry),
    names,
    st.integers(1, 12),
    retries,
)
queues = st.builds(
    lambda name, longest, retry: Queue(name, "test", (Ping,), "id", "test", longest, retry),
    names,
    st.integers(1, 10**6),
    retries,
)
exchanges = st.builds(lambda name: Exchange(name, "test", {"a.b": Happened}, "id", "test"), names)


def test_no_argument_of_a_queue_says_what_a_policy_could() -> None:
    for queue in build_declared_topology(1).queues:
        assert set(queue.arguments) <= ONLY_BY_ARGUMENT, queue.name


def test_every_queue_and_topic_is_bounded_and_loses_nothing() -> None:
    desired = build_declared_topology(3)
    for queue in desired.queues:
        assert (queue.limits["max-length"], queue.limits["overflow"]) == (1_000_000, "reject-publish"), queue.name
        if "dead-letter-routing-key" in queue.limits:
            assert queue.limits["dead-letter-strategy"] == "at-least-once", queue.name
    existing = {queue.name for queue in desired.queues}
    assert {
        queue.limits["dead-letter-routing-key"] for queue in desired.queues if "dead-letter-routing-key" in queue.limits
    } <= existing
    for topic in desired.topics:
        assert topic.config["min.insync.replicas"] == "2"
        assert "retention.ms" in topic.config or topic.config["cleanup.policy"] == "compact", topic.name


def test_a_policy_matches_its_own_queue_and_no_other() -> None:
    desired = build_declared_topology(1)
    for queue in desired.queues:
        assert [other.name for other in desired.queues if re.match(queue.limits_policy.pattern, other.name)] == [
            queue.name
        ]


def test_announcements_reach_payments_inventory_and_notifications() -> None:
    desired = build_declared_topology(1)
    assert {(binding.queue, binding.pattern) for binding in desired.bindings if binding.exchange == "orders"} == {
        ("payments.orders", "order.cancelled"),
        ("inventory.orders", "order.cancelled"),
        ("notifications.orders", "order.created"),
        ("notifications.orders", "order.cancelled"),
        ("notifications.orders", "order.cancellation-refused"),
    }


def test_a_reader_alone_makes_the_topic_that_it_reads() -> None:
    log = Topic("somebody-elses", "other", (Happened,), "id", "test")
    desired = build_topology([], [Subscription("reader", log)])
    assert [topic.name for topic in desired.topics] == [
        "somebody-elses",
        "reader.somebody-elses.dlq",
        "reader.somebody-elses.retry",
    ]
    assert build_topology([log], [Subscription("reader", log)]) == desired


@settings(deadline=None)  # a busy machine is not what it is about
@given(st.lists(topics | queues | exchanges, unique_by=lambda channel: channel.name, max_size=6), st.data())
def test_what_is_made_does_not_differ_and_each_change_is_found(
    channels: list[Topic | Queue | Exchange], data: st.DataObject
) -> None:
    readers = [
        Subscription("reader", channel.bind("reader", "a.*") if isinstance(channel, Exchange) else channel)
        for channel in channels
    ]
    desired = build_topology(channels, readers)
    both: dict[ObjectRef, BrokerObject] = {**desired.kafka_objects, **desired.rabbitmq_objects}
    assert find_differences(both, both) == []
    if both:
        ref = data.draw(st.sampled_from(sorted(both)))
        rest = {other: declared_object for other, declared_object in both.items() if other != ref}
        assert [(found.kind, found.object_ref) for found in find_differences(both, rest)] == [(DriftKind.MISSING, ref)]
        assert [(found.kind, found.object_ref) for found in find_differences(rest, both)] == [(DriftKind.FOREIGN, ref)]
