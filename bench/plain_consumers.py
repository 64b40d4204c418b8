"""The consumers that `bench/consumers.py` sets beside Caravan's: the clients alone, and
FastStream with its own subscribers, which acknowledge each message after it (`AckPolicy.ACK`).

Each reads the same backlog, decodes every message and counts it, and acknowledges; it has no inbox, no effect, no
database, no retries and no dead letters. They run in the measured process.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import orjson
from aiokafka import AIOKafkaConsumer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

PREFETCH = 200
DEADLINE_SECONDS = 600


class Tally:
    """Counts messages, and notes time and CPU at the first one."""

    def __init__(self) -> None:
        self.message_count = 0
        self.started_at = self.cpu_at_start = 0.0

    def count_message(self, envelope: Any) -> None:
        if not self.message_count:
            self.started_at, self.cpu_at_start = time.perf_counter(), time.process_time()
        assert envelope["data"]
        self.message_count += 1


async def _read_with_aiokafka(task: dict[str, Any], tally: Tally) -> None:
    consumer = AIOKafkaConsumer(
        task["source"],
        bootstrap_servers=task["kafka"],
        group_id=f"plain-{task['name']}",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    await consumer.start()
    try:
        while tally.message_count < task["count"]:
            for records in (await consumer.getmany(timeout_ms=1000, max_records=100)).values():
                for record in records:
                    tally.count_message(orjson.loads(record.value))
            await consumer.commit()
    finally:
        await consumer.stop()


async def _read_with_aio_pika(task: dict[str, Any], tally: Tally) -> None:
    async with await aio_pika.connect(task["amqp"]) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=PREFETCH)
        queue = await channel.get_queue(task["source"], ensure=False)
        async with queue.iterator() as messages:
            async for message in messages:
                tally.count_message(orjson.loads(message.body))
                await message.ack()
                if tally.message_count == task["count"]:
                    return


@asynccontextmanager
async def _run_broker(task: dict[str, Any], tally: Tally) -> AsyncIterator[None]:
    broker: KafkaBroker | RabbitBroker
    if task["kind"] == "topic":
        broker = kafka = KafkaBroker(task["kafka"], logger=None)
        subscriber: Any = kafka.subscriber(
            task["source"],
            group_id=f"faststream-{task['name']}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.ACK,
        )
    else:
        broker = rabbitmq = RabbitBroker(task["amqp"], logger=None, default_channel=Channel(prefetch_count=PREFETCH))
        subscriber = rabbitmq.subscriber(RabbitQueue(task["source"], declare=False), ack_policy=AckPolicy.ACK)

    @subscriber  # type: ignore[untyped-decorator]
    async def count_message(body: dict[str, Any]) -> None:
        tally.count_message(body)

    await broker.start()
    try:
        yield
    finally:
        await broker.stop()


async def _read_with_faststream(task: dict[str, Any], tally: Tally) -> None:
    async with _run_broker(task, tally):
        while tally.message_count < task["count"]:
            await asyncio.sleep(0.01)


async def measure_plain_consumer(task: dict[str, Any]) -> dict[str, Any]:
    tally = Tally()
    readers = {
        ("client", "topic"): _read_with_aiokafka,
        ("client", "queue"): _read_with_aio_pika,
        ("faststream", "topic"): _read_with_faststream,
        ("faststream", "queue"): _read_with_faststream,
    }
    async with asyncio.timeout(DEADLINE_SECONDS):
        await readers[task["library"], task["kind"]](task, tally)
    return {
        "cpu_seconds": time.process_time() - tally.cpu_at_start,
        "wall_seconds": time.perf_counter() - tally.started_at,
        "late": {"n": 0},
        "outbox": {},
        "problems": [],
    }
