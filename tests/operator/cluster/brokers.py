"""What the brokers really have, read and changed beside the operator: as its user, or as somebody who interferes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.reconcile.diff import Action
from caravan_operator.reconcile.kafka_topic import (
    AddPartitions,
    AlterConfig,
    CreateTopic,
    DeleteTopic,
    Topic,
    TopicState,
)
from confluent_kafka import Producer

from tests.support.backends import Broker


class SideKafka:
    def __init__(self, broker: Broker) -> None:
        self.url = broker.url
        self._admin = Kafka(KafkaLogin({"bootstrap.servers": broker.url}, ()), {}, lambda: None)

    async def read_topic(self, name: str, *, with_usage: bool = False) -> TopicState | None:
        return (await self._admin.read_states("KafkaTopic", [Topic(name, 1)], with_usage=with_usage))[0]

    async def read_setting(self, name: str, key: str) -> str | None:
        topic = await self.read_topic(name)
        assert topic is not None
        return topic.config[key].value

    async def list_topics(self, prefix: str) -> list[str]:
        return [name for name in await self._admin.list_topics() if name.startswith(prefix)]

    async def create_topic(self, name: str, partitions: int = 1, **config: str) -> None:
        await self._apply_action(
            CreateTopic(Topic(name, partitions, config={key.replace("_", "."): value for key, value in config.items()}))
        )

    async def set_config(self, name: str, key: str, value: str | None) -> None:
        await self._apply_action(AlterConfig(name, key, None, value))

    async def add_partitions(self, name: str, total: int) -> None:
        await self._apply_action(AddPartitions(name, 0, total))

    async def delete_topic(self, name: str) -> None:
        await self._apply_action(DeleteTopic(name))

    async def send_record(self, name: str) -> None:
        producer = Producer({"bootstrap.servers": self.url})
        producer.produce(name, b"record")
        assert await asyncio.to_thread(producer.flush, 20) == 0

    async def _apply_action(self, action: Action) -> None:
        assert await self._admin.apply_actions([(action,)]) == [None]


class SideRabbit:
    def __init__(self, broker: Broker) -> None:
        self.url = broker.management_url
        self.user = urlsplit(broker.management_url).username or ""

    async def call_api(self, method: str, *segments: str, body: Any = None) -> Any:
        """The answer, or None for 404."""
        async with httpx2.AsyncClient(timeout=20) as client:
            response = await client.request(
                method, f"{self.url}/api/" + "/".join(quote(part, safe="") for part in segments), json=body
            )
        if response.status_code == 404:
            return None
        response.raise_for_status()
        return response.json() if response.content else {}

    async def get_queue(self, name: str) -> Any:
        return await self.call_api("GET", "queues", "/", name)

    async def list_bindings(self, exchange: str, queue: str) -> list[str]:
        return [
            each["routing_key"] for each in await self.call_api("GET", "bindings", "/", "e", exchange, "q", queue) or ()
        ]

    async def get_policy(self, name: str) -> Any:
        return await self.call_api("GET", "policies", "/", name)

    async def send_message(self, queue: str) -> None:
        body = {"properties": {}, "routing_key": queue, "payload": "message", "payload_encoding": "string"}
        assert (await self.call_api("POST", "exchanges", "/", "amq.default", "publish", body=body))["routed"]


@asynccontextmanager
async def open_relay(target: str) -> AsyncIterator["Relay"]:
    """A TCP relay to `host:port` that can be cut."""
    wire = Relay(target)
    await wire.start_listening()
    try:
        yield wire
    finally:
        await wire.cut_connections()


class Relay:
    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def start_listening(self) -> None:
        self._server = await asyncio.start_server(self._relay_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut_connections(self) -> None:
        """Nothing listens any more, and what was connected is cut off."""
        if self._server is not None:
            self._server.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._server = None

    async def _relay_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_writer: asyncio.StreamWriter | None = None
        try:
            upstream, upstream_writer = await asyncio.open_connection(*self._target)
            await asyncio.wait(
                [
                    asyncio.create_task(_copy_bytes(reader, upstream_writer)),
                    asyncio.create_task(_copy_bytes(upstream, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream_writer):
                if each is not None:
                    each.close()


async def _copy_bytes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
