"""The run's Kafka and RabbitMQ, empty, for one whole shop at a time: its topics have fixed names, and a message of
another shop's order would be news to it.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TextIO

import httpx2
from aiokafka.admin import AIOKafkaAdminClient

from caravan.clock import new_id
from cli.topology import build_declared_topology
from tests.support.backends import RUN_FOLDER, Broker, broker
from tests.support.shop import wait_until


@asynccontextmanager
async def shop_brokers() -> AsyncIterator[dict[str, str]]:
    """The settings of a shop on them. Waits while another worker's shop has them; raises Unavailable where they can't
    be had.
    """
    kafka, rabbitmq = await asyncio.to_thread(broker, "kafka"), await asyncio.to_thread(broker, "rabbitmq")
    with (Path(os.environ[RUN_FOLDER]) / "shop.lock").open("w") as lock:
        await asyncio.to_thread(_alone, lock)
        await _without_topics(kafka)
        vhost = f"shop-{new_id()}"
        async with httpx2.AsyncClient(base_url=rabbitmq.management_url, timeout=30) as management:
            (await management.put(f"/api/vhosts/{vhost}")).raise_for_status()
            try:
                yield {
                    "CARAVAN_KAFKA_URL": kafka.url,
                    "CARAVAN_RABBITMQ_URL": f"{rabbitmq.url.rstrip('/')}/{vhost}",
                    "CARAVAN_RABBITMQ_MANAGEMENT_URL": rabbitmq.management_url,
                }
            finally:
                await management.delete(f"/api/vhosts/{vhost}")


def _alone(lock: TextIO) -> None:
    fcntl.flock(lock, fcntl.LOCK_EX)


async def _without_topics(kafka: Broker) -> None:
    """Kafka forgets the offsets of its groups together with a topic."""
    ours = {topic.name for topic in build_declared_topology(1).topics}
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.url)
    await admin.start()
    try:
        if there := ours & set(await admin.list_topics()):
            await admin.delete_topics(list(there))

        async def gone() -> bool:
            return not ours & set(await admin.list_topics())

        await wait_until(gone, seconds=30)
    finally:
        await admin.close()
