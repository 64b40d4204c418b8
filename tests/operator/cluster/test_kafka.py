"""KafkaTopic on a real API server and a real Kafka, with the operator as a process."""

import subprocess
import urllib.request
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.commands.kafka_import import import_from_kafka

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka
from tests.support.backends import Broker
from tests.support.shop import wait_until

REF = {"connectionRef": {"name": "kafka"}}
K = "KafkaTopic"


@pytest.fixture(scope="module")
def side(kafka: Broker) -> SideKafka:
    return SideKafka(kafka)


@pytest.fixture
def name() -> str:
    return f"t-{uuid4().hex[:8]}"


async def wait_for_value(check: Callable[[], Awaitable[object]], value: object) -> None:
    async def equal() -> bool:
        found = await check()
        assert found == value, f"{found} instead of {value}"
        return True

    await wait_until(equal, seconds=20, every=0.2)


async def test_a_resource_becomes_a_topic_and_says_so(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K, name, {**REF, "partitions": 2, "config": {"retention": "1h"}, "extraConfig": {"flush.ms": "1000"}}
    )
    found = await connected.wait_until_ready(K, name)
    topic = await side.read_topic(name)
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
    await connected.create_object(K, name, {**REF, "partitions": 1})
    await connected.wait_until_ready(K, name)
    printed = subprocess.run(
        ["kubectl", "get", "ktopic", name, "-n", connected.name], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert printed[0].split() == ["NAME", "READY", "REASON", "CONNECTION", "PARTITIONS", "SYNCED", "AGE"]
    assert printed[1].split()[:6] == [name, "True", "Ready", "kafka", "1", "True"]


async def test_drift_is_put_back_and_told_once(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1, "config": {"retention": "1h"}})
    before = await connected.wait_until_ready(K, name)
    await side.set_config(name, "retention.ms", "5")
    await side.set_config(name, "flush.ms", "7")
    await wait_for_value(lambda: side.read_setting(name, "retention.ms"), "3600000")
    assert await side.read_setting(name, "flush.ms") == "7", "the spec doesn't name it"
    after = await connected.wait_until_ready(K, name)
    assert after["status"]["conditions"] == before["status"]["conditions"]


async def test_a_deleted_topic_comes_back(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1})
    first = (await connected.wait_until_ready(K, name))["status"]["topicId"]
    await side.delete_topic(name)

    async def back() -> bool:
        return bool((await connected.get_object(K, name))["status"]["topicId"] != first)

    await wait_until(back, seconds=20, every=0.2)
    assert await side.read_topic(name) is not None


async def test_drift_is_only_reported_when_so_asked(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K, name, {**REF, "partitions": 1, "driftPolicy": "Report", "config": {"retention": "1h"}}
    )
    await connected.wait_until_ready(K, name)
    await side.set_config(name, "retention.ms", "5")
    found = await connected.wait_for_reason(K, name, "DriftReported")
    assert found["status"]["drift"] == [f"set retention.ms of topic {name} from 5 to 3600000"]
    assert await side.read_setting(name, "retention.ms") == "5"
    await side.set_config(name, "retention.ms", "3600000")
    assert "drift" not in (await connected.wait_until_ready(K, name))["status"]


async def test_plan_changes_nothing(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K, name, {**REF, "partitions": 1, "mode": "Plan", "deletionPolicy": "Delete", "extraConfig": {"no.such": "1"}}
    )
    found = await connected.wait_for_reason(K, name, "PlanPending")
    assert found["status"]["plan"][0] == f"create topic {name} with 1 partitions"
    assert "no.such" in found["status"]["plan"][1]
    assert await side.read_topic(name) is None
    assert "finalizers" not in found["metadata"]
    await connected.change_spec(K, name, {"mode": "Apply", "extraConfig": None})
    assert "plan" not in (await connected.wait_until_ready(K, name))["status"]
    assert await side.read_topic(name) is not None


async def test_adoption_leaves_unlisted_settings_alone(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await side.create_topic(name, 2, retention_ms="1000", flush_ms="9")
    spec = {**REF, "partitions": 2, "config": {"retention": "1h"}, "configOwnership": "All"}
    await connected.create_object(K, name, spec)
    found = await connected.wait_for_reason(K, name, "NotEqual")
    assert found["status"]["drift"] == [f"set retention.ms of topic {name} from 1000 to 3600000"]
    assert await side.read_setting(name, "retention.ms") == "1000"
    await connected.change_spec(K, name, {"adoptionPolicy": "Adopt"})
    found = await connected.wait_until_ready(K, name)
    assert found["status"]["origin"] == "Adopted"
    assert (await side.read_setting(name, "retention.ms"), await side.read_setting(name, "flush.ms")) == (
        "3600000",
        "9",
    )


async def test_an_existing_topic_is_refused_when_so_asked(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await side.create_topic(name)
    await connected.create_object(
        K, name, {**REF, "partitions": 1, "adoptionPolicy": "Refuse", "deletionPolicy": "Delete"}
    )
    await connected.wait_for_reason(K, name, "AlreadyExists")
    await connected.delete_object(K, name)
    await connected.wait_until_gone(K, name)
    assert await side.read_topic(name) is not None


async def test_partitions_grow_when_allowed_and_never_shrink(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1})
    await connected.wait_until_ready(K, name)
    with pytest.raises(ApiError, match="allowPartitionIncrease"):
        await connected.change_spec(K, name, {"partitions": 3})
    await connected.change_spec(K, name, {"partitions": 3, "allowPartitionIncrease": True})
    await wait_for_value(lambda: _count_partitions(side, name), 3)
    with pytest.raises(ApiError, match="partitions can't shrink"):
        await connected.change_spec(K, name, {"partitions": 2})
    await connected.wait_until_ready(K, name)
    await side.add_partitions(name, 5)
    found = await connected.wait_for_reason(K, name, "PartitionsShrink")
    assert "5 partitions, the spec 3" in (await connected.get_condition(K, name))["message"]
    assert found["status"]["partitions"] == 5


async def _count_partitions(side: SideKafka, name: str) -> int:
    topic = await side.read_topic(name)
    return topic.partitions if topic else 0


@pytest.mark.parametrize(
    ("policy", "records", "stays"), [("Retain", True, True), ("Delete", True, False), ("DeleteIfUnused", False, False)]
)
async def test_deletion(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str, policy: str, records: bool, stays: bool
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1, "deletionPolicy": policy})
    await connected.wait_until_ready(K, name)
    if records:
        await side.send_record(name)
    await connected.delete_object(K, name)
    await connected.wait_until_gone(K, name)
    await wait_for_value(lambda: _has_topic(side, name), stays)


async def _has_topic(side: SideKafka, name: str) -> bool:
    return await side.read_topic(name) is not None


async def test_a_topic_with_records_is_kept_and_the_resource_goes_after_the_longest_wait(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1, "deletionPolicy": "DeleteIfUnused"})
    await connected.wait_until_ready(K, name)
    await side.send_record(name)
    await connected.delete_object(K, name)
    await connected.wait_for_reason(K, name, "InUse")
    await connected.wait_until_gone(K, name, seconds=60)
    assert await side.read_topic(name) is not None
    assert "RetainedAfterWait" in {reason for reason, _ in await connected.list_events(name)}


async def test_pause_holds_changes_and_deletions(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K, name, {**REF, "partitions": 1, "deletionPolicy": "Delete", "config": {"retention": "1h"}}
    )
    await connected.wait_until_ready(K, name)
    await connected.set_annotations(K, name, paused="true")
    await connected.wait_for_reason(K, name, "Paused", type="Paused")
    await connected.change_spec(K, name, {"config": {"retention": "2h"}})
    await connected.wait_for_reason(K, name, "Paused", type="Paused")
    assert await side.read_setting(name, "retention.ms") == "3600000"
    await connected.delete_object(K, name)

    async def waits() -> bool:
        return "deletion waits" in (await connected.get_condition(K, name, "Paused"))["message"]

    await wait_until(waits, every=0.1)
    assert await side.read_topic(name) is not None
    await connected.set_annotations(K, name, paused=None)
    await connected.wait_until_gone(K, name)
    assert await side.read_topic(name) is None


async def test_the_force_annotation_ends_a_deletion_and_keeps_the_object(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K,
        name,
        {**REF, "partitions": 1, "deletionPolicy": "Delete"},
        annotations={"messaging.caravan.dev/paused": "true"},
    )
    await connected.wait_for_reason(K, name, "Paused", type="Paused")
    await connected.set_annotations(K, name, paused=None)
    await connected.wait_until_ready(K, name)
    await connected.set_annotations(K, name, paused="true")
    await connected.delete_object(K, name)
    await connected.set_annotations(K, name, force_finalize="yes")
    await connected.wait_until_gone(K, name)
    assert await side.read_topic(name) is not None


async def test_of_two_resources_for_one_topic_the_older_wins(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await connected.create_object(
        K,
        f"{name}-a",
        {**REF, "topicName": name, "partitions": 1, "config": {"retention": "1h"}, "deletionPolicy": "Delete"},
    )
    await connected.wait_until_ready(K, f"{name}-a")
    await connected.create_object(
        K,
        f"{name}-b",
        {**REF, "topicName": name, "partitions": 1, "config": {"retention": "2h"}, "adoptionPolicy": "Adopt"},
    )
    found = await connected.wait_for_reason(K, f"{name}-b", "Conflict")
    assert found["status"]["conflict"] == f"{connected.name}/{name}-a"
    assert await side.read_setting(name, "retention.ms") == "3600000"
    identity = (await side.read_topic(name)).id  # type: ignore[union-attr]
    await connected.delete_object(K, f"{name}-a")
    await connected.wait_until_ready(K, f"{name}-b")
    topic = await side.read_topic(name)
    assert topic is not None and topic.id == identity, (
        "the winner's deletion must not take the topic from the other one"
    )
    assert topic.config["retention.ms"].value == "7200000"


async def test_protected_topics_and_refusals_are_told_with_the_brokers_words(
    operator: OperatorProcess, connected: Namespace, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "topicName": f"__{name}", "partitions": 1})
    await connected.wait_for_reason(K, name, "Protected")
    await connected.create_object(K, f"{name}-big", {**REF, "partitions": 1, "replicas": 3})
    await connected.wait_for_reason(K, f"{name}-big", "BrokerRefused")
    assert "INVALID_REPLICATION_FACTOR" in (await connected.get_condition(K, f"{name}-big"))["message"]


async def test_a_pass_that_changes_nothing_writes_nothing(
    operator: OperatorProcess, connected: Namespace, name: str
) -> None:
    await connected.create_object(K, name, {**REF, "partitions": 1, "config": {"retention": "1h"}})
    version = (await connected.wait_until_ready(K, name))["metadata"]["resourceVersion"]
    await connected.set_annotations(K, name, reconcile_now="token-1")

    async def answered() -> bool:
        return bool((await connected.get_object(K, name))["status"].get("reconcileToken") == "token-1")

    await wait_until(answered, every=0.1)
    found = await connected.get_object(K, name)
    assert found["metadata"]["resourceVersion"] != version
    passes = _count_passes(operator)
    assert await wait_until(lambda: _has_more_passes(operator, passes), seconds=20, every=0.2)
    assert (await connected.get_object(K, name))["metadata"]["resourceVersion"] == found["metadata"]["resourceVersion"]


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


async def test_an_import_adopts_what_is_there_unchanged(
    operator: OperatorProcess, connected: Namespace, side: SideKafka, name: str
) -> None:
    await side.create_topic(name, 2, retention_ms="90000", cleanup_policy="delete,compact", flush_ms="7")
    (document,), skipped = await import_from_kafka(side.url, "kafka", f"^{name}$", "", "", "", False)
    assert not skipped
    before = await side.read_topic(name)
    await connected.create_object(K, name, document["spec"])
    assert (await connected.wait_until_ready(K, name))["status"]["origin"] == "Adopted"
    assert await side.read_topic(name) == before
