"""Reads topics on Kafka from their first message on, as no group, for whoever rebuilds a read model of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from caravan.bus import LoggedMessage
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.opening import finish_opening
from caravan.bus.topology.kafka import describe_failure

_POLL_MS = 1_000
_SILENCE_SECONDS = 60.0
"""So long nothing may come of what is there: longer than a broker takes to be started again."""


class KafkaTopicLog:
    """All partitions of the topics, each from its beginning. The end is asked for anew whenever it was reached."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._consumer = consumer
        self._ends: dict[TopicPartition, int] = {}

    async def read_messages(self, limit: int) -> list[LoggedMessage]:
        """Raises KafkaTimeoutError when nothing comes of what was there: the client only waits for a broker that has
        gone, and for a topic that was deleted.
        """
        if not await self._list_unread():
            self._ends = await self._consumer.end_offsets(sorted(self._consumer.assignment()))
        deadline = asyncio.get_running_loop().time() + _SILENCE_SECONDS
        while unread := await self._list_unread():
            if asyncio.get_running_loop().time() > deadline:
                partitions = ", ".join(f"{tp.topic}/{tp.partition}" for tp in unread)
                raise KafkaTimeoutError(f"nothing has come of {partitions} for {_SILENCE_SECONDS:g} s")
            records = await self._consumer.getmany(*unread, timeout_ms=_POLL_MS, max_records=limit)
            messages = [
                LoggedMessage(record.topic, record.value)
                for of_one in records.values()
                for record in of_one
                if record.value is not None
            ]
            if messages:
                return messages
        return []

    async def _list_unread(self) -> list[TopicPartition]:
        return [tp for tp, end in self._ends.items() if await self._consumer.position(tp) < end]


@asynccontextmanager
async def open_kafka_log(servers: KafkaServers, client: str, topics: Sequence[str]) -> AsyncIterator[KafkaTopicLog]:
    """Raises ConnectionError, also in what is done with it, where Kafka can't be reached or gives no answer."""
    consumer = AIOKafkaConsumer(
        *topics,
        **servers.build_client_arguments(),
        client_id=f"{client}-log",
        group_id=None,  # it has all partitions of the topics, and starts them at the beginning
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    try:
        await finish_opening(consumer.start())
        yield KafkaTopicLog(consumer)
    except (KafkaConnectionError, KafkaTimeoutError) as error:
        raise ConnectionError(await describe_failure(servers, error)) from error
    finally:
        await consumer.stop()
