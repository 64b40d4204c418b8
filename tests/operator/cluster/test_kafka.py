"""KafkaTopic on a real API server and a real Kafka, with the operator as a process."""

import subprocess
import urllib.request

import pytest
from caravan_operator.backends.kubernetes import ApiError

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka
from tests.operator.cluster.kinds import KAFKA, TOPIC
from tests.operator.cluster.waiting import wait_for_value
from tests.support.shop import wait_until


async def test_a_resource_becomes_a_topic_and_says_so(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC, name, {**KAFKA, "partitions": 2, "config": {"retention": "1h"}, "extraConfig": {"flush.ms": "1000"}}
    )
    found = await connected.wait_until_ready(TOPIC, name)
    topic = await kafka_side.read_topic(name)
    assert topic is not None
    assert topic.partitions == 2
    assert topic.config["retention.ms"].value == "3600000"
    assert topic.config["flush.ms"].value == "1000"
    assert found["status"]["topicId"] == topic.id
    assert found["status"]["origin"] == "Created"
    assert found["status"]["appliedGeneration"] == 1
    assert "finalizers" not in found["metadata"], "with Retain nothing has to be done at the end"

    async def creation_is_reported() -> bool:
        return ("Created", f"create topic {name} with 2 partitions") in await connected.list_events(name)

    await wait_until(creation_is_reported)


async def test_columns_tell_what_matters(operator: OperatorProcess, connected: Namespace, name: str) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
    await connected.wait_until_ready(TOPIC, name)
    printed = subprocess.run(
        ["kubectl", "get", "ktopic", name, "-n", connected.name], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed[0].split() == ["NAME", "READY", "REASON", "CONNECTION", "PARTITIONS", "SYNCED", "AGE"]
    assert printed[1].split()[:6] == [name, "True", "Ready", "kafka", "1", "True"]


async def test_drift_is_put_back_and_told_once(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1, "config": {"retention": "1h"}})
    before = await connected.wait_until_ready(TOPIC, name)
    await kafka_side.set_config(name, "retention.ms", "5")
    await kafka_side.set_config(name, "flush.ms", "7")
    await wait_for_value(lambda: kafka_side.read_setting(name, "retention.ms"), "3600000")
    assert await kafka_side.read_setting(name, "flush.ms") == "7", "the spec doesn't name it"
    after = await connected.wait_until_ready(TOPIC, name)
    assert after["status"]["conditions"] == before["status"]["conditions"]


async def test_a_deleted_topic_comes_back(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
    first = (await connected.wait_until_ready(TOPIC, name))["status"]["topicId"]
    await kafka_side.delete_topic(name)

    async def back() -> bool:
        return bool((await connected.get_object(TOPIC, name))["status"]["topicId"] != first)

    await wait_until(back, seconds=20, every=0.2)
    assert await kafka_side.read_topic(name) is not None


async def test_drift_is_only_reported_when_so_asked(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC, name, {**KAFKA, "partitions": 1, "driftPolicy": "Report", "config": {"retention": "1h"}}
    )
    await connected.wait_until_ready(TOPIC, name)
    await kafka_side.set_config(name, "retention.ms", "5")
    found = await connected.wait_for_reason(TOPIC, name, "DriftReported")
    assert found["status"]["drift"] == [f"set retention.ms of topic {name} from 5 to 3600000"]
    assert await kafka_side.read_setting(name, "retention.ms") == "5"
    await kafka_side.set_config(name, "retention.ms", "3600000")
    assert "drift" not in (await connected.wait_until_ready(TOPIC, name))["status"]


async def test_plan_changes_nothing(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC,
        name,
        {**KAFKA, "partitions": 1, "mode": "Plan", "deletionPolicy": "Delete", "extraConfig": {"no.such": "1"}},
    )
    found = await connected.wait_for_reason(TOPIC, name, "PlanPending")
    assert found["status"]["plan"][0] == f"create topic {name} with 1 partitions"
    assert "no.such" in found["status"]["plan"][1]
    assert await kafka_side.read_topic(name) is None
    assert "finalizers" not in found["metadata"]
    await connected.change_spec(TOPIC, name, {"mode": "Apply", "extraConfig": None})
    assert "plan" not in (await connected.wait_until_ready(TOPIC, name))["status"]
    assert await kafka_side.read_topic(name) is not None


async def test_partitions_grow_when_allowed_and_never_shrink(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1})
    await connected.wait_until_ready(TOPIC, name)
    with pytest.raises(ApiError, match="allowPartitionIncrease"):
        await connected.change_spec(TOPIC, name, {"partitions": 3})
    await connected.change_spec(TOPIC, name, {"partitions": 3, "allowPartitionIncrease": True})
    await wait_for_value(lambda: _count_partitions(kafka_side, name), 3)
    with pytest.raises(ApiError, match="partitions can't shrink"):
        await connected.change_spec(TOPIC, name, {"partitions": 2})
    await connected.wait_until_ready(TOPIC, name)
    await kafka_side.add_partitions(name, 5)
    found = await connected.wait_for_reason(TOPIC, name, "PartitionsShrink")
    assert "5 partitions, the spec 3" in (await connected.get_condition(TOPIC, name))["message"]
    assert found["status"]["partitions"] == 5


async def _count_partitions(kafka_side: SideKafka, name: str) -> int:
    topic = await kafka_side.read_topic(name)
    return topic.partitions if topic else 0


async def test_a_pass_that_changes_nothing_writes_nothing(
    operator: OperatorProcess, connected: Namespace, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "partitions": 1, "config": {"retention": "1h"}})
    version = (await connected.wait_until_ready(TOPIC, name))["metadata"]["resourceVersion"]
    await connected.set_annotations(TOPIC, name, reconcile_now="token-1")

    async def answered() -> bool:
        return bool((await connected.get_object(TOPIC, name))["status"].get("reconcileToken") == "token-1")

    await wait_until(answered, every=0.1)
    found = await connected.get_object(TOPIC, name)
    assert found["metadata"]["resourceVersion"] != version
    passes = _count_passes(operator)
    assert await wait_until(lambda: _has_more_passes(operator, passes), seconds=20, every=0.2)
    assert (await connected.get_object(TOPIC, name))["metadata"]["resourceVersion"] == found["metadata"][
        "resourceVersion"
    ]


async def _has_more_passes(operator: OperatorProcess, passes: float) -> bool:
    return _count_passes(operator) > passes


def _count_passes(operator: OperatorProcess) -> float:
    """Batches that the operator has ended, by its own metrics."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{operator.port}/metrics", timeout=5).read().decode()
    return float(
        text.partition('caravan_operator_reconcile_time_seconds_count{connection_kind="KafkaConnection"} ')[
            2
        ].partition("\n")[0]
    )
