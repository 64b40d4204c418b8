"""A pass over resources with brokers and an API server in memory: what it leaves in statuses, Events, metrics and the
queue.
"""

import pytest
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.reconcile import parse_desired
from caravan_operator.resources import CLAIM_ANNOTATION, FINALIZER, PAUSED_ANNOTATION
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DRIFTED, READY, SYNCED

from tests.operator.reconciler_lab import Counts, Lab
from tests.operator.resources import make_resource


async def test_a_new_topic_is_claimed_created_and_reported(lab: Lab) -> None:
    topic, counts = make_resource(deletionPolicy="Delete"), Counts()
    lab.add(topic)
    await lab.run(topic)
    claim, finalizer_and_status = lab.api.patches[0], lab.api.patches[1:]
    assert claim == (
        "orders",
        {"metadata": {"annotations": {CLAIM_ANNOTATION: topic.uid}, "finalizers": [FINALIZER]}},
    )
    assert [[*patch] for _, patch in finalizer_and_status] == [["status"]]
    assert lab.get_reason(topic, READY) == ("True", "Ready")
    status = lab.get_status(topic)
    assert (status["origin"], status["appliedGeneration"], status["connectionHash"]) == ("Created", 1, "hash-1")
    assert [(name, reason) for name, reason, _ in lab.api.events] == [("orders", "Created")]
    assert lab.broker.calls == ["read", "apply", "read"]
    assert counts.list_changes() == {"success": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == []


async def test_a_second_pass_writes_nothing(lab: Lab) -> None:
    topic = make_resource()
    lab.add(topic)
    await lab.run(topic)
    patches, events, counts = [*lab.api.patches], [*lab.api.events], Counts()
    await lab.run(topic)
    assert (lab.api.patches, lab.api.events) == (patches, events)
    assert lab.broker.calls == ["read", "apply", "read", "read"]
    assert counts.list_changes() == {"success": 1.0}


async def test_a_finalizer_follows_the_deletion_policy(lab: Lab) -> None:
    topic = make_resource(finalized=True, status={"origin": "Created"}, deletionPolicy="Retain")
    lab.server.topics["orders"] = (3, 1, {})
    lab.add(topic)
    await lab.run(topic)
    assert lab.api.objects[topic.key].finalizers == ()
    assert lab.get_reason(topic, SYNCED) == ("True", "InSync")


async def test_a_changed_setting_is_put_back_with_an_event(lab: Lab) -> None:
    topic = make_resource(config={"retention": "24h"})
    lab.add(topic)
    await lab.run(topic)
    lab.server.topics["orders"][2]["retention.ms"] = "5"
    lab.api.events.clear()
    counts = Counts()
    await lab.run(topic)
    assert lab.server.topics["orders"][2]["retention.ms"] == "86400000"
    assert [(name, reason) for name, reason, _ in lab.api.events] == []
    assert counts.list_changes() == {"success": 1.0, "corrected": 1.0, "AlterConfig": 1.0}


async def test_reported_drift_is_counted_once(lab: Lab) -> None:
    topic = make_resource(config={"retention": "24h"}, driftPolicy="Report")
    lab.add(topic)
    await lab.run(topic)
    lab.server.topics["orders"][2]["retention.ms"] = "5"
    counts = Counts()
    await lab.run(topic)
    await lab.run(topic)
    assert lab.server.topics["orders"][2]["retention.ms"] == "5"
    assert lab.get_reason(topic, DRIFTED) == ("True", "DriftReported")
    assert counts.list_changes() == {"success": 2.0, "reported": 1.0}


async def test_a_plan_says_what_the_broker_would_refuse(lab: Lab) -> None:
    topics = [make_resource(name=name, mode="Plan") for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.refused = {"bad"}
    counts = Counts()
    await lab.run(*topics)
    assert lab.broker.calls == ["read", "dry run"]
    assert lab.server.topics == {}
    plans = {topic.key.name: lab.get_status(topic)["plan"] for topic in topics}
    assert len(plans["good"]) == 1
    assert plans["bad"][1:] == ["the broker would refuse: not allowed"]
    assert counts.list_changes() == {"success": 2.0}


async def test_a_refused_change_fails_alone(lab: Lab) -> None:
    topics = [make_resource(name=name) for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.refused = {"bad"}
    counts = Counts()
    await lab.run(*topics)
    assert lab.get_reason(topics[0], SYNCED) == ("True", "InSync")
    assert lab.get_reason(topics[1], SYNCED) == ("False", "BrokerRefused")
    assert counts.list_changes() == {"success": 1.0, "error": 1.0, "requeue": 1.0, "errors": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == ["bad"]


async def test_an_unreadable_object_fails_alone(lab: Lab) -> None:
    topics = [make_resource(name=name) for name in ("good", "bad")]
    lab.add(*topics)
    lab.broker.unreadable = {"bad"}
    await lab.run(*topics)
    assert lab.get_reason(topics[0], SYNCED) == ("True", "InSync")
    assert lab.get_reason(topics[1], SYNCED) == ("False", "BrokerRefused")
    assert lab.list_queued() == ["bad"]


async def test_a_change_that_never_shows_is_reported_after_some_passes(lab: Lab) -> None:
    topic, counts = make_resource(), Counts()
    lab.add(topic)
    lab.broker.is_frozen = True
    for attempts in range(1, 4):
        await lab.run(topic)
        assert lab.get_status(topic) == {}
        assert lab.queue.get_attempts(topic.key) == attempts
        lab.now += 100
    assert counts.list_changes() == {"requeue": 3.0, "CreateTopic": 3.0}
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "NotConverging")
    assert counts.list_changes() == {"requeue": 4.0, "CreateTopic": 4.0, "error": 1.0, "errors": 1.0}
    lab.broker.is_frozen = False
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("True", "InSync")
    assert lab.queue.get_attempts(topic.key) == 0


@pytest.mark.parametrize("reads", [0, 1])
async def test_an_unavailable_broker_is_reported_on_each_and_tried_by_its_connection(lab: Lab, reads: int) -> None:
    """Before anything is known, and after the change: what was claimed meanwhile is reported on all the same."""
    topics = [make_resource(name="new"), make_resource(name="known", status={"appliedGeneration": 1})]
    lab.add(*topics)
    lab.broker.remaining_reads = reads
    counts = Counts()
    await lab.run(*topics)
    assert lab.get_reason(topics[0], CONNECTION_READY) == ("False", "Unreachable")
    assert lab.get_reason(topics[0], SYNCED) == ("Unknown", "Unreachable")
    assert lab.get_reason(topics[1], CONNECTION_READY) == ("False", "Unreachable")
    assert counts.list_changes()["waiting"] == 2.0
    assert lab.list_queued() == ["broker"]


async def test_of_two_for_one_topic_the_younger_waits_and_names_the_older(lab: Lab) -> None:
    older, younger = (make_resource(name=name, age=age, topicName="t") for name, age in (("old", 9), ("young", 0)))
    lab.add(older, younger)
    counts = Counts()
    await lab.run(older, younger)
    assert lab.get_reason(younger, ACCEPTED) == ("False", "Conflict")
    assert lab.get_status(younger)["conflict"] == "shop/old"
    assert lab.get_reason(younger, SYNCED) == ("Unknown", "Conflict")
    assert counts.list_changes() == {"success": 1.0, "waiting": 1.0, "CreateTopic": 1.0}
    assert lab.list_queued() == []


async def test_a_paused_resource_and_one_without_a_connection_are_left_alone(lab: Lab) -> None:
    paused = make_resource(name="paused", annotations={PAUSED_ANNOTATION: "true"})
    homeless = make_resource(name="homeless", connectionRef={"name": "other"})
    lab.add(paused, homeless)
    await lab.run(paused)
    await lab.reconciler.run(Key("KafkaConnection", "shop", "other"), [homeless.key])
    assert lab.get_reason(paused, "Paused") == ("True", "Paused")
    assert lab.get_reason(paused, SYNCED) is None
    assert lab.get_reason(homeless, CONNECTION_READY) == ("False", "ConnectionNotFound")
    assert lab.broker.calls == []


async def test_a_binding_waits_for_its_ends_and_is_woken_by_them() -> None:
    lab = Lab("RabbitMQConnection")
    binding = make_resource("RabbitMQBinding", "b", source="e", destination="q", destinationType="queue")
    exchange = make_resource("RabbitMQExchange", "e", type="topic", durable=True)
    queue = make_resource("RabbitMQQueue", "q", type="quorum", durable=True)
    lab.add(binding, exchange, queue)
    counts = Counts("RabbitMQBinding")
    await lab.run(binding)
    assert lab.get_reason(binding, "DependenciesReady") == ("False", "DependencyMissing")
    assert counts.list_changes() == {"waiting": 1.0}
    assert lab.list_queued() == ["b"]
    await lab.run(exchange)
    assert lab.list_queued(0.0) == ["b"], "at once"
    await lab.run(binding, queue)
    assert lab.get_reason(binding, SYNCED) == ("True", "InSync"), "a queue goes before its bindings"


@pytest.mark.parametrize(
    ("status", "expected"), [(409, {"requeue": 1.0}), (500, {"requeue": 1.0, "errors": 1.0})], ids=["stale", "failed"]
)
async def test_without_its_claim_nothing_is_created(lab: Lab, status: int, expected: dict[str, float]) -> None:
    topic, counts = make_resource(), Counts()
    lab.add(topic)
    lab.api.errors = [ApiError(status, "no")]
    await lab.run(topic)
    assert lab.server.topics == {}
    assert counts.list_changes() == expected
    assert lab.list_queued() == ["orders"]


async def test_a_status_that_could_not_be_written_comes_again(lab: Lab) -> None:
    topic = make_resource(status={"origin": "Created"})
    lab.server.topics["orders"] = (3, 1, {})
    lab.add(topic)
    lab.api.errors = [ApiError(500, "no")]
    counts = Counts()
    await lab.run(topic)
    assert counts.list_changes() == {"requeue": 1.0, "errors": 1.0}
    assert lab.list_queued() == ["orders"]


async def test_an_unusable_spec_is_rejected_with_its_reason(lab: Lab) -> None:
    topic = make_resource(name="a", config="no mapping")
    with pytest.raises(UnusableSpec):
        parse_desired(topic)
    lab.add(topic)
    await lab.run(topic)
    assert lab.get_reason(topic, ACCEPTED) == ("False", "Invalid")
