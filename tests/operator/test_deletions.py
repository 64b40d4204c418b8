"""A pass over resources that are being deleted: what becomes of their objects, and when they are let go."""

from dataclasses import replace
from datetime import timedelta

from caravan_operator.reconcile.kafka_topic import DeleteTopic
from caravan_operator.status.conditions import SYNCED

from tests.operator.reconciler_lab import Counts, Lab
from tests.operator.resources import START, make_resource


async def test_a_deletion_deletes_lets_go_and_says_so(lab: Lab) -> None:
    topic = make_resource(
        deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete", topicName="t"
    )
    lab.server.topics["t"] = (3, 1, {})
    lab.add(topic)
    counts = Counts()
    await lab.run(topic)
    assert lab.server.topics == {}
    assert lab.api.objects[topic.key].finalizers == ()
    assert lab.api.events == [("orders", "Deleted", DeleteTopic("t").summary)]
    assert counts.list_changes() == {"success": 1.0, "delete": 1.0}
    assert lab.list_queued() == []


async def test_a_deletion_that_is_refused_waits_then_the_object_stays(lab: Lab) -> None:
    topic = make_resource(deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete")
    lab.server.topics["orders"] = (3, 1, {})
    lab.broker.refused = {"orders"}
    lab.add(topic)
    counts = Counts()
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "Deleting")
    assert lab.list_queued() == ["orders"]
    late = replace(lab.api.objects[topic.key], deleted_at=START - timedelta(minutes=11))
    lab.add(late)
    await lab.run(late)
    assert lab.api.objects[topic.key].finalizers == ()
    assert [reason for _, reason, _ in lab.api.events][-1:] == ["RetainedAfterWait"]
    assert "orders" in lab.server.topics
    assert counts.list_changes() == {"success": 1.0}


async def test_a_deletion_waits_for_an_unavailable_broker(lab: Lab) -> None:
    topic = make_resource(deleted=START, finalized=True, status={"origin": "Created"}, deletionPolicy="Delete")
    lab.add(topic)
    lab.broker.remaining_reads = 0
    await lab.run(topic)
    assert lab.get_reason(topic, SYNCED) == ("False", "Deleting")
    assert lab.list_queued() == ["broker", "orders"]
