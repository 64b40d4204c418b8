"""What becomes of a topic whose resource is deleted or paused."""

import pytest

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka
from tests.operator.cluster.kinds import KAFKA, TOPIC
from tests.operator.cluster.waiting import wait_for_value
from tests.support.shop import wait_until


@pytest.mark.parametrize(
    ("policy", "records", "stays"), [("Retain", True, True), ("Delete", True, False), ("DeleteIfUnused", False, False)]
)
async def test_deletion(
    operator: OperatorProcess,
    connected: Namespace,
    kafka_side: SideKafka,
    name: str,
    policy: str,
    records: bool,
    stays: bool,
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1, "deletionPolicy": policy})
    await connected.wait_until_ready(TOPIC, name)
    if records:
        await kafka_side.send_record(name)
    await connected.delete_object(TOPIC, name)
    await connected.wait_until_gone(TOPIC, name)
    await wait_for_value(lambda: _has_topic(kafka_side, name), stays)


async def _has_topic(kafka_side: SideKafka, name: str) -> bool:
    return await kafka_side.read_topic(name) is not None


async def test_a_topic_with_records_is_kept_and_the_resource_goes_after_the_longest_wait(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1, "deletionPolicy": "DeleteIfUnused"})
    await connected.wait_until_ready(TOPIC, name)
    await kafka_side.send_record(name)
    await connected.delete_object(TOPIC, name)
    await connected.wait_for_reason(TOPIC, name, "InUse")
    await connected.wait_until_gone(TOPIC, name, seconds=60)
    assert await kafka_side.read_topic(name) is not None
    assert "RetainedAfterWait" in {reason for reason, _ in await connected.list_events(name)}


async def test_pause_holds_changes_and_deletions(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC, name, {**KAFKA, "partitions": 1, "deletionPolicy": "Delete", "config": {"retention": "1h"}}
    )
    await connected.wait_until_ready(TOPIC, name)
    await connected.set_annotations(TOPIC, name, paused="true")
    await connected.wait_for_reason(TOPIC, name, "Paused", type="Paused")
    await connected.change_spec(TOPIC, name, {"config": {"retention": "2h"}})
    await connected.wait_for_reason(TOPIC, name, "Paused", type="Paused")
    assert await kafka_side.read_setting(name, "retention.ms") == "3600000"
    await connected.delete_object(TOPIC, name)

    async def waits() -> bool:
        return "deletion waits" in (await connected.get_condition(TOPIC, name, "Paused"))["message"]

    await wait_until(waits, every=0.1)
    assert await kafka_side.read_topic(name) is not None
    await connected.set_annotations(TOPIC, name, paused=None)
    await connected.wait_until_gone(TOPIC, name)
    assert await kafka_side.read_topic(name) is None


async def test_the_force_annotation_ends_a_deletion_and_keeps_the_object(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC,
        name,
        {**KAFKA, "partitions": 1, "deletionPolicy": "Delete"},
        annotations={"messaging.caravan.dev/paused": "true"},
    )
    await connected.wait_for_reason(TOPIC, name, "Paused", type="Paused")
    await connected.set_annotations(TOPIC, name, paused=None)
    await connected.wait_until_ready(TOPIC, name)
    await connected.set_annotations(TOPIC, name, paused="true")
    await connected.delete_object(TOPIC, name)
    await connected.set_annotations(TOPIC, name, force_finalize="yes")
    await connected.wait_until_gone(TOPIC, name)
    assert await kafka_side.read_topic(name) is not None
