"""Topics on a real Kafka: made once, altered where that loses nothing, and left alone where a person has to decide."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError, SaslAuthenticationFailed

from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.topology import BrokerUnavailable, ObjectRef, Topology, build_topology
from caravan.bus.topology import kafka as kafka_topology
from caravan.bus.topology.drift import ApplyResult, Difference, DriftKind, find_differences
from caravan.bus.topology.kafka import (
    _alter_incrementally,
    apply_topology,
    describe_failure,
    find_missing,
    observe_objects,
)
from caravan.messages import Topic
from tests.caravan.bus.topology.sample import build_sample_topology
from tests.support.backends import Broker
from tests.support.shop import wait_until


async def find_drift(kafka: Broker, declared: Topology) -> list[Difference]:
    """Without what other tests left on the shared Kafka."""
    differences = find_differences(declared.kafka_objects, await observe_objects(KafkaServers(kafka.url), declared))
    return [difference for difference in differences if difference.kind is not DriftKind.FOREIGN]


async def test_what_is_applied_does_not_differ_and_applying_again_does_nothing(kafka: Broker) -> None:
    _, _, declared = build_sample_topology()
    assert await find_missing(KafkaServers(kafka.url), declared) == list(declared.kafka_objects)
    result = await apply_topology(KafkaServers(kafka.url), declared)
    assert (len(result.changes), result.unresolved) == (len(declared.kafka_objects), ())
    assert await find_drift(kafka, declared) == []
    assert await find_missing(KafkaServers(kafka.url), declared) == []
    assert (await apply_topology(KafkaServers(kafka.url), declared)).changes == ()


async def test_two_who_make_the_same_topics_at_once_both_succeed(kafka: Broker) -> None:
    _, _, declared = build_sample_topology()
    results = await asyncio.gather(*(apply_topology(KafkaServers(kafka.url), declared) for _ in range(3)))
    assert {result.unresolved for result in results} == {()}
    assert await find_drift(kafka, declared) == []


async def test_without_topics_no_broker_is_asked() -> None:
    assert await apply_topology(KafkaServers("127.0.0.1:1"), Topology()) == ApplyResult()


async def test_an_unavailable_broker_is_named() -> None:
    _, _, declared = build_sample_topology()
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127.0.0.1:1 "):
        await apply_topology(KafkaServers("127.0.0.1:1"), declared)


@pytest.mark.parametrize("urls", ["away:9092,secure:9092", "secure:9092, away:9092"])
async def test_a_server_that_refuses_the_login_is_named_before_one_that_is_away(
    urls: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connect(host: str, *_: Any, **__: Any) -> None:
        raise OSError("no route to host") if host == "away" else SaslAuthenticationFailed("wrong password")

    monkeypatch.setattr(kafka_topology, "create_conn", connect)
    reason = await describe_failure(KafkaServers(urls), KafkaConnectionError())
    assert reason.startswith(
        "Kafka at secure:9092 can't be used: CARAVAN_KAFKA_USERNAME and CARAVAN_KAFKA_PASSWORD are"
    )
    assert await describe_failure(KafkaServers("away:1,away:2"), KafkaConnectionError()) == (
        "Kafka at away:1 can't be used: no route to host"
    )


async def test_drift_of_topics_is_repaired_and_settings_of_others_are_kept(kafka: Broker) -> None:
    channels, readers, desired = build_sample_topology()
    log: Topic = channels[0]
    await apply_topology(KafkaServers(kafka.url), desired)
    wider = replace(log, partitions=6)
    short = build_topology([replace(wider, retention=log.retention / 7)], readers[:1])
    await _set_topic_config(kafka, log.name, "segment.bytes", "2000000")
    result = await apply_topology(KafkaServers(kafka.url), short)
    assert result.changes == (f"topic {log.name}: retention.ms = 86400000",)
    assert result.unresolved == (
        f"topic {log.name} has 3 partitions, declared 6: add them with --grow-partitions (keys move)",
    )

    async def is_retention_seen() -> bool:  # a broker shows an altered setting a moment after it has accepted it
        seen = await observe_objects(KafkaServers(kafka.url), short)
        return seen[ObjectRef("topic", log.name)].config["retention.ms"] == "86400000"

    await wait_until(is_retention_seen)
    assert (await apply_topology(KafkaServers(kafka.url), short, grow=True)).changes == (
        f"topic {log.name}: 3 -> 6 partitions",
    )

    async def is_repaired() -> bool:
        return await find_drift(kafka, short) == []

    await wait_until(is_repaired)
    observed = await observe_objects(KafkaServers(kafka.url), short)
    assert observed[ObjectRef("topic", log.name)].config["segment.bytes"] == "2000000"
    assert "Kafka can't remove any" in (await apply_topology(KafkaServers(kafka.url), desired)).unresolved[0]


async def _set_topic_config(kafka: Broker, name: str, key: str, value: str) -> None:
    await asyncio.to_thread(_alter_incrementally, KafkaServers(kafka.url), {name: {key: value}})
