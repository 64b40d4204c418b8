"""The topology as custom resources: each object becomes one, with names that Kubernetes takes and durations as text."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.bus.topology import KafkaTopic, RabbitQueue, Topology
from caravan.bus.topology.render import build_resource_name, build_resources, format_duration
from cli.topology import build_declared_topology


def test_each_topic_and_queue_becomes_a_resource_that_refers_to_its_connection() -> None:
    desired = build_declared_topology(1)
    rendered = build_resources(desired)
    kinds = [resource["kind"] for resource in rendered]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "KafkaTopic": len(desired.topics),
        "RabbitMQQueue": len(desired.queues),
        "RabbitMQExchange": len(desired.exchanges),
        "RabbitMQBinding": len(desired.bindings),
    }
    assert len({(resource["kind"], resource["metadata"]["name"]) for resource in rendered}) == len(rendered)
    capture = next(resource for resource in rendered if resource["metadata"]["name"] == "payments.capture.retry.4")
    assert capture["spec"] == {
        "connectionRef": {"name": "rabbitmq"},
        "deletionPolicy": "Retain",
        "name": "payments.capture.retry.4",
        "type": "quorum",
        "limits": {
            "maxLength": 1_000_000,
            "overflow": "reject-publish",
            "deadLetterExchange": "",
            "deadLetterRoutingKey": "payments.capture",
            "deadLetterStrategy": "at-least-once",
            "messageTtl": "30s",
        },
    }


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300))
def test_any_name_becomes_a_dns_name(name: str) -> None:
    made = build_resource_name(name)
    assert len(made) <= 253
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", made)
    assert made == name or build_resource_name(name + "x") != made


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(604_800_000, "168h"), (90_000, "90s"), (200, "200ms"), (0, "0ms"), (120_000, "2m")]
)
def test_durations_are_said_in_the_largest_whole_unit(milliseconds: int, text: str) -> None:
    assert format_duration(milliseconds) == text


@pytest.mark.parametrize(
    "topology",
    [
        Topology(topics=(KafkaTopic("t", 1, 1, {"segment.bytes": "1"}),)),
        Topology(queues=(RabbitQueue("q", {"expires": 1}),)),
    ],
)
def test_a_setting_that_the_resource_has_no_field_for_is_an_error_and_no_silent_loss(topology: Topology) -> None:
    with pytest.raises(KeyError):
        build_resources(topology)


def test_numbers_are_numbers_and_what_only_arguments_can_say_stays_an_argument() -> None:
    topic, queue = build_resources(
        Topology(
            topics=(KafkaTopic("t", 3, 2, {"retention.ms": "86400000", "min.insync.replicas": "1"}),),
            queues=(RabbitQueue("q", {}, {"x-queue-type": "quorum", "x-single-active-consumer": True}),),
        )
    )
    assert (topic["spec"]["partitions"], topic["spec"]["replicas"]) == (3, 2)
    assert topic["spec"]["config"] == {"retention": "24h", "minInsyncReplicas": 1}
    assert (queue["spec"]["arguments"], queue["spec"]["limits"]) == ({"singleActiveConsumer": True}, {})
