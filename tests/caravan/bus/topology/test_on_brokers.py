"""Topology on real brokers: made once, drift found and repaired, and waited for by those who may not make it."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aio_pika
import httpx2
import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from caravan.bus import Subscription
from caravan.bus.brokers import BrokerBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbitmq import RabbitBus
from caravan.bus.topology import BrokerObject, BrokerUnavailable, NotDeclared, ObjectRef, Topology, build_topology
from caravan.bus.topology import kafka as on_kafka
from caravan.bus.topology import rabbitmq as on_rabbit
from caravan.bus.topology.drift import Difference, DriftKind, find_differences
from caravan.clock import new_id, utc_now
from caravan.messages import Exchange, RetryPolicy, Topic
from tests.contract.bus_contract import QUICK, Happened, make_queue, make_topic
from tests.support.backends import ROOT, Broker

DRIFT = 3


@pytest.fixture
async def vhost(rabbitmq: Broker) -> AsyncIterator[Broker]:
    """A virtual host of its own: nothing in it is foreign."""
    name = f"test-{new_id()}"
    async with httpx2.AsyncClient(base_url=rabbitmq.management_url) as management:
        (await management.put(f"/api/vhosts/{name}")).raise_for_status()
        yield replace(rabbitmq, url=rabbitmq.url.rstrip("/") + f"/{name}")
        await management.delete(f"/api/vhosts/{name}")


def build_sample_topology() -> tuple[list[Any], list[Subscription], Topology]:
    exchange = Exchange(f"exchange-{new_id()}", "test", {"a.b": Happened}, "id", "test")
    channels: list[Any] = [make_topic(), make_queue(), exchange]
    readers = [
        Subscription("reader", channels[0]),
        Subscription("reader", channels[1]),
        Subscription("reader", exchange.bind("reader", "a.*", retry=QUICK)),
    ]
    return channels, readers, build_topology(channels, readers)


def drop_foreign(differences: list[Difference]) -> list[Difference]:
    """Without what other tests left on the shared Kafka."""
    return [difference for difference in differences if difference.kind is not DriftKind.FOREIGN]


async def find_rabbitmq_drift(vhost: Broker, desired: Topology) -> list[Difference]:
    observed: dict[ObjectRef, BrokerObject] = await on_rabbit.observe_objects(vhost.management_url, vhost.url)
    return find_differences(desired.rabbitmq_objects, observed)


async def test_what_is_applied_does_not_differ_and_applying_again_does_nothing(kafka: Broker, vhost: Broker) -> None:
    _, _, desired = build_sample_topology()
    logs, tasks = (
        await on_kafka.apply_topology(kafka.url, desired),
        await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired),
    )
    assert (len(logs.changes), len(tasks.changes), logs.unresolved, tasks.unresolved) == (
        len(desired.kafka_objects),
        len(desired.rabbitmq_objects),
        (),
        (),
    )
    assert (
        drop_foreign(find_differences(desired.kafka_objects, await on_kafka.observe_objects(kafka.url, desired))) == []
    )
    assert await find_rabbitmq_drift(vhost, desired) == []
    assert (await on_kafka.apply_topology(kafka.url, desired)).changes == ()
    assert (await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)).changes == ()


async def test_each_kind_of_drift_on_rabbitmq_is_found_and_repaired(vhost: Broker) -> None:
    _, readers, desired = build_sample_topology()
    await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)
    work_queue, bound = desired.queues[0], readers[2].name
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        vhost_name = httpx2.URL(vhost.url).path.strip("/")
        changed = {"pattern": "^nothing$", "definition": {"max-length": 5}, "priority": 1, "apply-to": "queues"}
        (
            await management.put(f"/api/policies/{vhost_name}/{work_queue.limits_policy.name}", json=changed)
        ).raise_for_status()
        (await management.delete(f"/api/queues/{vhost_name}/{bound}")).raise_for_status()
        (
            await management.put(
                f"/api/queues/{vhost_name}/stranger", json={"durable": True, "arguments": {"x-queue-type": "quorum"}}
            )
        ).raise_for_status()
    found = {(difference.kind, difference.object_ref) for difference in await find_rabbitmq_drift(vhost, desired)}
    assert found >= {
        (DriftKind.DIFFERENT, work_queue.limits_policy.object_ref),
        (DriftKind.MISSING, ObjectRef("queue", bound)),
        (DriftKind.FOREIGN, ObjectRef("queue", "stranger")),
    }
    assert (DriftKind.MISSING, desired.bindings[0].object_ref) in found, "a binding goes with its queue"
    assert (await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)).unresolved == ()
    assert [str(difference) for difference in await find_rabbitmq_drift(vhost, desired)] == ["foreign: queue stranger"]


async def test_an_argument_that_beats_the_policy_is_drift_that_only_a_person_removes(vhost: Broker) -> None:
    _, _, desired = build_sample_topology()
    work_queue = desired.queues[0]
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        vhost_name = httpx2.URL(vhost.url).path.strip("/")
        body = {"durable": True, "arguments": {**work_queue.arguments, "x-max-length": 7}}
        (await management.put(f"/api/queues/{vhost_name}/{work_queue.name}", json=body)).raise_for_status()
    unresolved = (await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)).unresolved
    assert unresolved == (
        f"different: queue {work_queue.name}: x-max-length is 7, declared absent: drain it, delete it, and apply again",
    )


async def test_drift_of_topics_is_repaired_and_settings_of_others_are_kept(kafka: Broker) -> None:
    channels, readers, desired = build_sample_topology()
    log: Topic = channels[0]
    await on_kafka.apply_topology(kafka.url, desired)
    wider = replace(log, partitions=6)
    short = build_topology([replace(wider, retention=log.retention / 7)], readers[:1])
    await _set_topic_config(kafka, log.name, "segment.bytes", "2000000")
    result = await on_kafka.apply_topology(kafka.url, short)
    assert result.changes == (f"topic {log.name}: retention.ms = 86400000",)
    assert result.unresolved == (
        f"topic {log.name} has 3 partitions, declared 6: add them with --grow-partitions (keys move)",
    )
    assert (await on_kafka.apply_topology(kafka.url, short, grow=True)).changes == (
        f"topic {log.name}: 3 -> 6 partitions",
    )
    assert drop_foreign(find_differences(short.kafka_objects, await on_kafka.observe_objects(kafka.url, short))) == []
    observed = await on_kafka.observe_objects(kafka.url, short)
    assert observed[ObjectRef("topic", log.name)].config["segment.bytes"] == "2000000"
    assert "Kafka can't remove any" in (await on_kafka.apply_topology(kafka.url, desired)).unresolved[0]


async def test_without_the_right_to_declare_it_says_what_is_missing_until_somebody_has_made_it(
    kafka: Broker, vhost: Broker
) -> None:
    channels, readers, desired = build_sample_topology()
    guest = BrokerBus(
        KafkaBus(kafka.url, "guest"), RabbitBus(vhost.url, "guest", management="http://nowhere.invalid"), is_owner=False
    )
    await guest.start()
    try:
        with pytest.raises(NotDeclared, match=f"topic {channels[0].name}") as before:
            await guest.declare_channels(channels, readers)
        assert "topics, queues or exchanges are missing" in str(before.value)
        await on_kafka.apply_topology(kafka.url, desired)
        with pytest.raises(NotDeclared, match=f"exchange {channels[2].name}"):
            await guest.declare_channels(channels, readers)
        await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)
        await guest.declare_channels(channels, readers)
    finally:
        await guest.close()


async def test_brokers_that_are_away_are_waited_for_and_the_error_says_which(kafka: Broker, rabbitmq: Broker) -> None:
    _, _, desired = build_sample_topology()
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127.0.0.1:1 "):
        await on_kafka.apply_topology("127.0.0.1:1", desired)
    with pytest.raises(
        BrokerUnavailable, match=r"management API at http://127.0.0.1:1 .*CARAVAN_RABBITMQ_MANAGEMENT_URL"
    ):
        await on_rabbit.apply_topology("http://caravan:secret@127.0.0.1:1", rabbitmq.url, desired)


async def test_a_retry_tier_brings_back_and_a_full_queue_refuses_by_policy_alone(vhost: Broker) -> None:
    bounded = replace(make_queue(), max_length=2, retry=RetryPolicy(delays=(0.05,)))
    desired = build_topology([bounded], [Subscription("test", bounded)])
    await on_rabbit.apply_topology(vhost.management_url, vhost.url, desired)
    async with await aio_pika.connect(vhost.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.default_exchange.publish(aio_pika.Message(b"back"), f"{bounded.name}.retry.1")
        work_queue = await channel.get_queue(bounded.name)
        arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        tag = await work_queue.consume(arrived.put)
        message = await asyncio.wait_for(arrived.get(), 10)
        assert message.body == b"back"
        await message.ack()
        await work_queue.cancel(tag)

        async def overfill() -> None:
            for number in range(20):
                await channel.default_exchange.publish(aio_pika.Message(str(number).encode()), bounded.name)

        with pytest.raises(aio_pika.exceptions.DeliveryError):
            await overfill()


async def _set_topic_config(kafka: Broker, name: str, key: str, value: str) -> None:
    await asyncio.to_thread(on_kafka._alter_incrementally, kafka.url, {name: {key: value}})


async def applied(kafka: Broker, since: str) -> list[dict[str, Any]]:
    """What the audit log has of it."""
    consumer = AIOKafkaConsumer("audit", bootstrap_servers=kafka.url, auto_offset_reset="earliest", group_id=None)
    found: list[dict[str, Any]] = []
    await consumer.start()
    try:
        async with asyncio.timeout(30):
            async for message in consumer:
                try:
                    envelope = orjson.loads(message.value)
                except orjson.JSONDecodeError:
                    continue  # what another test wrote to the log of this broker
                if envelope.get("time", "") >= since and envelope["data"]["action"] == "topology.applied":
                    found.append(envelope["data"])
                    if len(found) == 2:
                        break
    finally:
        await consumer.stop()
    return found


@pytest.mark.slow
async def test_the_command_applies_shows_drift_and_ends_with_its_status(kafka: Broker, vhost: Broker) -> None:
    brokers = {
        "CARAVAN_KAFKA_URL": kafka.url,
        "CARAVAN_RABBITMQ_URL": vhost.url,
        "CARAVAN_RABBITMQ_MANAGEMENT_URL": vhost.management_url,
    }

    async def run_caravan(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cli", "topology", *arguments),
            cwd=ROOT,
            env={**os.environ, **brokers},
            stdout=-1,
            stderr=-2,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode is not None
        return process.returncode, output.decode()

    since = utc_now().isoformat()
    status, output = await run_caravan("diff", "--allow-foreign")
    assert (status, "missing: queue payments.capture" in output) == (DRIFT, True), output
    status, output = await run_caravan("apply")
    assert (status, "queue payments.capture: created" in output) == (0, True), output
    status, output = await run_caravan("diff", "--allow-foreign")
    assert status == 0, output
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    await admin.delete_topics(["order-created"])
    await admin.close()
    status, output = await run_caravan("diff", "--allow-foreign")
    assert (status, "missing: topic order-created" in output) == (DRIFT, True), output
    status, output = await run_caravan("apply")
    assert (status, output.splitlines()[-2:]) == (
        0,
        ["topic order-created: created", "1 changes; 0 unresolved differences"],
    )
    assert "caravan:caravan" not in output
    first, second = await applied(kafka, since)
    assert first["actor"] == second["actor"] == "operator"
    assert first["result"] == "done"
    assert "queue payments.capture: created" in first["details"]["done"]
    assert second["details"] == {
        "changes": 1,
        "done": ["topic order-created: created"],
        "differences_left": 0,
        "left": [],
    }
