"""The one producer of a process: idempotent, acks from all replicas, and replaced when a publish failed.

After a failed batch an idempotent producer has a gap in its sequence, and what it still buffers may arrive late, after
newer messages. So nobody sends with it again, and it is closed when its last user has finished.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.opening import OpeningTurns, finish_opening

_MAX_REQUEST = 1_048_576
_SETTINGS: dict[str, Any] = {
    "enable_idempotence": True,
    "acks": "all",
    "max_request_size": _MAX_REQUEST,
    "linger_ms": 2,
    "request_timeout_ms": 10_000,
}
_CLOSE_SECONDS = 5.0


class Producer:
    def __init__(self, servers: KafkaServers, client: str) -> None:
        self._servers = servers
        self._client = client
        self._current_producer: AIOKafkaProducer | None = None
        self._user_counts: dict[AIOKafkaProducer, int] = {}
        self._opening = OpeningTurns()

    async def start(self) -> None:
        """Connect. Raises KafkaConnectionError when no broker is there, RuntimeError when the client isn't what a
        loss-free publish needs.
        """
        async with self._opening.take_turn():
            if self._current_producer is None:
                producer = AIOKafkaProducer(
                    client_id=self._client, **self._servers.build_client_arguments(), **_SETTINGS
                )
                try:
                    await finish_opening(producer.start())
                    if producer._sender._acks != -1 or producer._txn_manager is None:
                        raise RuntimeError("the Kafka producer is not idempotent with acks from all replicas")
                except BaseException:
                    await _close_without_flush(producer)
                    raise
                self._current_producer = producer
                self._user_counts[producer] = 0

    @asynccontextmanager
    async def use_producer(self) -> AsyncIterator[AIOKafkaProducer]:
        if self._current_producer is None:
            await self.start()
        producer = self._current_producer
        assert producer is not None
        self._user_counts[producer] += 1
        try:
            yield producer
        finally:
            self._user_counts[producer] -= 1
            if self._current_producer is not producer and not self._user_counts[producer]:
                del self._user_counts[producer]
                await _close_without_flush(producer)

    def retire_producer(self, producer: AIOKafkaProducer) -> None:
        """A publish with it failed: whoever comes next gets a new one."""
        if self._current_producer is producer:
            self._current_producer = None

    async def close(self) -> None:
        producer, self._current_producer = self._current_producer, None
        if producer is not None:
            if not self._user_counts[producer]:
                del self._user_counts[producer]  # otherwise its last user does
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await producer.flush()
            await _close_without_flush(producer)


async def _close_without_flush(producer: AIOKafkaProducer) -> None:
    """Stop without flushing: `stop()` waits for the broker for ever."""
    producer._closed = True
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer._sender.close()
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await producer.client.close()
