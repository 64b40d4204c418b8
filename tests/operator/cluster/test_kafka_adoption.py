"""Topics that are there already: adopted, refused, imported, or claimed by two resources."""

from caravan_operator.commands.kafka_import import import_from_kafka

from tests.operator.cluster.apiserver import Namespace, OperatorProcess
from tests.operator.cluster.brokers import SideKafka
from tests.operator.cluster.kinds import KAFKA, TOPIC


async def test_adoption_leaves_unlisted_settings_alone(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await kafka_side.create_topic(name, 2, retention_ms="1000", flush_ms="9")
    spec = {**KAFKA, "partitions": 2, "config": {"retention": "1h"}, "configOwnership": "All"}
    await connected.create_object(TOPIC, name, spec)
    found = await connected.wait_for_reason(TOPIC, name, "NotEqual")
    assert found["status"]["drift"] == [f"set retention.ms of topic {name} from 1000 to 3600000"]
    assert await kafka_side.read_setting(name, "retention.ms") == "1000"
    await connected.change_spec(TOPIC, name, {"adoptionPolicy": "Adopt"})
    found = await connected.wait_until_ready(TOPIC, name)
    assert found["status"]["origin"] == "Adopted"
    assert (await kafka_side.read_setting(name, "retention.ms"), await kafka_side.read_setting(name, "flush.ms")) == (
        "3600000",
        "9",
    )


async def test_an_existing_topic_is_refused_when_so_asked(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await kafka_side.create_topic(name)
    await connected.create_object(
        TOPIC, name, {**KAFKA, "partitions": 1, "adoptionPolicy": "Refuse", "deletionPolicy": "Delete"}
    )
    await connected.wait_for_reason(TOPIC, name, "AlreadyExists")
    await connected.delete_object(TOPIC, name)
    await connected.wait_until_gone(TOPIC, name)
    assert await kafka_side.read_topic(name) is not None


async def test_of_two_resources_for_one_topic_the_older_wins(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await connected.create_object(
        TOPIC,
        f"{name}-a",
        {**KAFKA, "topicName": name, "partitions": 1, "config": {"retention": "1h"}, "deletionPolicy": "Delete"},
    )
    await connected.wait_until_ready(TOPIC, f"{name}-a")
    await connected.create_object(
        TOPIC,
        f"{name}-b",
        {**KAFKA, "topicName": name, "partitions": 1, "config": {"retention": "2h"}, "adoptionPolicy": "Adopt"},
    )
    found = await connected.wait_for_reason(TOPIC, f"{name}-b", "Conflict")
    assert found["status"]["conflict"] == f"{connected.name}/{name}-a"
    assert await kafka_side.read_setting(name, "retention.ms") == "3600000"
    identity = (await kafka_side.read_topic(name)).id  # type: ignore[union-attr]
    await connected.delete_object(TOPIC, f"{name}-a")
    await connected.wait_until_ready(TOPIC, f"{name}-b")
    topic = await kafka_side.read_topic(name)
    assert topic is not None and topic.id == identity, (
        "the winner's deletion must not take the topic from the other one"
    )
    assert topic.config["retention.ms"].value == "7200000"


async def test_protected_topics_and_refusals_are_told_with_the_brokers_words(
    operator: OperatorProcess, connected: Namespace, name: str
) -> None:
    await connected.create_object(TOPIC, name, {**KAFKA, "topicName": f"__{name}", "partitions": 1})
    await connected.wait_for_reason(TOPIC, name, "Protected")
    await connected.create_object(TOPIC, f"{name}-big", {**KAFKA, "partitions": 1, "replicas": 3})
    await connected.wait_for_reason(TOPIC, f"{name}-big", "BrokerRefused")
    assert "INVALID_REPLICATION_FACTOR" in (await connected.get_condition(TOPIC, f"{name}-big"))["message"]


async def test_an_import_adopts_what_is_there_unchanged(
    operator: OperatorProcess, connected: Namespace, kafka_side: SideKafka, name: str
) -> None:
    await kafka_side.create_topic(name, 2, retention_ms="90000", cleanup_policy="delete,compact", flush_ms="7")
    (document,), skipped = await import_from_kafka(kafka_side.url, "kafka", f"^{name}$", "", "", "", False)
    assert not skipped
    before = await kafka_side.read_topic(name)
    await connected.create_object(TOPIC, name, document["spec"])
    assert (await connected.wait_until_ready(TOPIC, name))["status"]["origin"] == "Adopted"
    assert await kafka_side.read_topic(name) == before
