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
from caravan.bus.brokers import Brokers
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.bus.topology import BrokerAway, Element, NotDeclared, Thing, Topology, topology
from caravan.bus.topology import kafka as on_kafka
from caravan.bus.topology import rabbit as on_rabbit
from caravan.bus.topology.drift import Difference, Kind, compare
from caravan.clock import new_id, utc_now
from caravan.messages import Exchange, Retry, Topic
from tests.backends import ROOT, Broker
from tests.contract.bus_contract import QUICK, Happened, queue, topic

DRIFT = 3


@pytest.fixture
async def vhost(rabbitmq: Broker) -> AsyncIterator[Broker]:
    """A virtual host of its own: nothing in it is foreign."""
    name = f"test-{new_id()}"
    async with httpx2.AsyncClient(base_url=rabbitmq.management_url) as management:
        (await management.put(f"/api/vhosts/{name}")).raise_for_status()
        yield replace(rabbitmq, url=rabbitmq.url.rstrip("/") + f"/{name}")
        await management.delete(f"/api/vhosts/{name}")


def declared() -> tuple[list[Any], list[Subscription], Topology]:
    exchange = Exchange(f"exchange-{new_id()}", "test", {"a.b": Happened}, "id", "test")
    channels: list[Any] = [topic(), queue(), exchange]
    readers = [
        Subscription("reader", channels[0]),
        Subscription("reader", channels[1]),
        Subscription("reader", exchange.bind("reader", "a.*", retry=QUICK)),
    ]
    return channels, readers, topology(channels, readers)


def ours(differences: list[Difference]) -> list[Difference]:
    """Without what other tests left on the shared Kafka."""
    return [difference for difference in differences if difference.kind is not Kind.FOREIGN]


async def rabbit_drift(vhost: Broker, wanted: Topology) -> list[Difference]:
    observed: dict[Thing, Element] = await on_rabbit.observe(vhost.management_url, vhost.url)
    return compare(wanted.rabbit, observed)


async def test_what_is_applied_does_not_differ_and_applying_again_does_nothing(kafka: Broker, vhost: Broker) -> None:
    _, _, wanted = declared()
    logs, tasks = await on_kafka.apply(kafka.url, wanted), await on_rabbit.apply(vhost.management_url, vhost.url, wanted)
    assert (len(logs.done), len(tasks.done), logs.left, tasks.left) == (len(wanted.kafka), len(wanted.rabbit), (), ())
    assert ours(compare(wanted.kafka, await on_kafka.observe(kafka.url, wanted))) == []
    assert await rabbit_drift(vhost, wanted) == []
    assert (await on_kafka.apply(kafka.url, wanted)).done == ()
    assert (await on_rabbit.apply(vhost.management_url, vhost.url, wanted)).done == ()


async def test_each_kind_of_drift_on_rabbitmq_is_found_and_repaired(vhost: Broker) -> None:
    _, readers, wanted = declared()
    await on_rabbit.apply(vhost.management_url, vhost.url, wanted)
    work, bound = wanted.queues[0], readers[2].name
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        place = httpx2.URL(vhost.url).path.strip("/")
        changed = {"pattern": "^nothing$", "definition": {"max-length": 5}, "priority": 1, "apply-to": "queues"}
        (await management.put(f"/api/policies/{place}/{work.policy.name}", json=changed)).raise_for_status()
        (await management.delete(f"/api/queues/{place}/{bound}")).raise_for_status()
        (
            await management.put(f"/api/queues/{place}/stranger", json={"durable": True, "arguments": {"x-queue-type": "quorum"}})
        ).raise_for_status()
    found = {(difference.kind, difference.thing) for difference in await rabbit_drift(vhost, wanted)}
    assert found >= {(Kind.DIFFERENT, work.policy.thing), (Kind.MISSING, Thing("queue", bound)), (Kind.FOREIGN, Thing("queue", "stranger"))}
    assert (Kind.MISSING, wanted.bindings[0].thing) in found, "a binding goes with its queue"
    assert (await on_rabbit.apply(vhost.management_url, vhost.url, wanted)).left == ()
    assert [str(difference) for difference in await rabbit_drift(vhost, wanted)] == ["foreign: queue stranger"]


async def test_an_argument_that_beats_the_policy_is_drift_that_only_a_person_removes(vhost: Broker) -> None:
    _, _, wanted = declared()
    work = wanted.queues[0]
    async with httpx2.AsyncClient(base_url=vhost.management_url) as management:
        place = httpx2.URL(vhost.url).path.strip("/")
        body = {"durable": True, "arguments": {**work.arguments, "x-max-length": 7}}
        (await management.put(f"/api/queues/{place}/{work.name}", json=body)).raise_for_status()
    left = (await on_rabbit.apply(vhost.management_url, vhost.url, wanted)).left
    assert left == (f"different: queue {work.name}: x-max-length is 7, declared absent: drain it, delete it, and apply again",)


async def test_drift_of_topics_is_repaired_and_settings_of_others_are_kept(kafka: Broker) -> None:
    channels, readers, wanted = declared()
    log: Topic = channels[0]
    await on_kafka.apply(kafka.url, wanted)
    wider = replace(log, partitions=6)
    short = topology([replace(wider, retention=log.retention / 7)], readers[:1])
    await _set(kafka, log.name, "segment.bytes", "2000000")
    applied = await on_kafka.apply(kafka.url, short)
    assert applied.done == (f"topic {log.name}: retention.ms = 86400000",)
    assert applied.left == (f"topic {log.name} has 3 partitions, declared 6: add them with --grow-partitions (keys move)",)
    assert (await on_kafka.apply(kafka.url, short, grow=True)).done == (f"topic {log.name}: 3 -> 6 partitions",)
    assert ours(compare(short.kafka, await on_kafka.observe(kafka.url, short))) == []
    observed = await on_kafka.observe(kafka.url, short)
    assert observed[Thing("topic", log.name)].config["segment.bytes"] == "2000000"
    assert "Kafka can't remove any" in (await on_kafka.apply(kafka.url, wanted)).left[0]


async def test_without_the_right_to_declare_it_says_what_is_missing_until_somebody_has_made_it(kafka: Broker, vhost: Broker) -> None:
    channels, readers, wanted = declared()
    guest = Brokers(KafkaBus(kafka.url, "guest"), RabbitBus(vhost.url, "guest", management="http://nowhere.invalid"), owner=False)
    await guest.start()
    try:
        with pytest.raises(NotDeclared, match=f"topic {channels[0].name}") as before:
            await guest.declare(channels, readers)
        assert "topics, queues or exchanges are missing" in str(before.value)
        await on_kafka.apply(kafka.url, wanted)
        with pytest.raises(NotDeclared, match=f"exchange {channels[2].name}"):
            await guest.declare(channels, readers)
        await on_rabbit.apply(vhost.management_url, vhost.url, wanted)
        await guest.declare(channels, readers)
    finally:
        await guest.close()


async def test_brokers_that_are_away_are_waited_for_and_the_error_says_which(kafka: Broker, rabbitmq: Broker) -> None:
    _, _, wanted = declared()
    with pytest.raises(BrokerAway, match=r"Kafka at 127.0.0.1:1 "):
        await on_kafka.apply("127.0.0.1:1", wanted)
    with pytest.raises(BrokerAway, match=r"management API at http://127.0.0.1:1 .*CARAVAN_RABBITMQ_MANAGEMENT_URL"):
        await on_rabbit.apply("http://caravan:secret@127.0.0.1:1", rabbitmq.url, wanted)


async def test_a_retry_tier_brings_back_and_a_full_queue_refuses_by_policy_alone(vhost: Broker) -> None:
    bounded = replace(queue(), max_length=2, retry=Retry(delays=(0.05,)))
    wanted = topology([bounded], [Subscription("test", bounded)])
    await on_rabbit.apply(vhost.management_url, vhost.url, wanted)
    async with await aio_pika.connect(vhost.url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.default_exchange.publish(aio_pika.Message(b"back"), f"{bounded.name}.retry.1")
        work = await channel.get_queue(bounded.name)
        arrived: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        tag = await work.consume(arrived.put)
        message = await asyncio.wait_for(arrived.get(), 10)
        assert message.body == b"back"
        await message.ack()
        await work.cancel(tag)
        with pytest.raises(aio_pika.exceptions.DeliveryError):
            for number in range(20):
                await channel.default_exchange.publish(aio_pika.Message(str(number).encode()), bounded.name)


async def _set(kafka: Broker, name: str, key: str, value: str) -> None:
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
    brokers = {"CARAVAN_KAFKA_URL": kafka.url, "CARAVAN_RABBITMQ_URL": vhost.url, "CARAVAN_RABBITMQ_MANAGEMENT_URL": vhost.management_url}

    async def caravan(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services", "topology", *arguments), cwd=ROOT, env={**os.environ, **brokers}, stdout=-1, stderr=-2
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
        assert process.returncode is not None
        return process.returncode, output.decode()

    since = utc_now().isoformat()
    status, output = await caravan("diff", "--allow-foreign")
    assert (status, "missing: queue payments.capture" in output) == (DRIFT, True), output
    status, output = await caravan("apply")
    assert (status, "queue payments.capture: created" in output) == (0, True), output
    status, output = await caravan("diff", "--allow-foreign")
    assert status == 0, output
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    await admin.delete_topics(["order-created"])
    await admin.close()
    status, output = await caravan("diff", "--allow-foreign")
    assert (status, "missing: topic order-created" in output) == (DRIFT, True), output
    status, output = await caravan("apply")
    assert (status, output.splitlines()[-2:]) == (0, ["topic order-created: created", "1 changes; 0 differences left"])
    assert "caravan:caravan" not in output
    first, second = await applied(kafka, since)
    assert first["actor"] == second["actor"] == "operator" and first["result"] == "done"
    assert "queue payments.capture: created" in first["details"]["done"]
    assert second["details"] == {"changes": 1, "done": ["topic order-created: created"], "differences_left": 0, "left": []}
