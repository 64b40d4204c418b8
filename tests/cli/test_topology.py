"""`caravan topology` on real brokers: it applies, shows drift, and ends with the status that says which."""

import asyncio
import os
import sys
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from caravan.clock import utc_now
from tests.support.backends import ROOT, Broker

DRIFT = 3


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
