"""What the brokers really have, read and changed beside the operator: as its user, or as somebody who interferes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
from caravan_operator.backends.kafka import Kafka, KafkaLogin
from caravan_operator.reconcile.findings import Action
from caravan_operator.reconcile.kafka_topic import AddPartitions, AlterConfig, CreateTopic, DeleteTopic, Topic, TopicState
from confluent_kafka import Producer

from tests.backends import Broker


class SideKafka:
    def __init__(self, broker: Broker) -> None:
        self.url = broker.url
        self._admin = Kafka(KafkaLogin({"bootstrap.servers": broker.url}, ()), {}, lambda: None)

    async def topic(self, name: str, *, usage: bool = False) -> TopicState | None:
        return (await self._admin.observe("KafkaTopic", [Topic(name, 1)], usage=usage))[0]

    async def setting(self, name: str, key: str) -> str | None:
        found = await self.topic(name)
        assert found is not None
        return found.config[key].value

    async def topics(self, prefix: str) -> list[str]:
        return [name for name in await self._admin.names() if name.startswith(prefix)]

    async def create(self, name: str, partitions: int = 1, **config: str) -> None:
        await self._run(CreateTopic(Topic(name, partitions, config={key.replace("_", "."): value for key, value in config.items()})))

    async def set(self, name: str, key: str, value: str | None) -> None:
        await self._run(AlterConfig(name, key, None, value))

    async def grow(self, name: str, total: int) -> None:
        await self._run(AddPartitions(name, 0, total))

    async def delete(self, name: str) -> None:
        await self._run(DeleteTopic(name))

    async def send(self, name: str) -> None:
        producer = Producer({"bootstrap.servers": self.url})
        producer.produce(name, b"record")
        assert await asyncio.to_thread(producer.flush, 20) == 0

    async def _run(self, action: Action) -> None:
        assert await self._admin.apply([(action,)]) == [None]


class SideRabbit:
    def __init__(self, broker: Broker) -> None:
        self.url = broker.management_url
        self.user = urlsplit(broker.management_url).username or ""

    async def ask(self, method: str, *parts: str, body: Any = None) -> Any:
        """The answer, or None for 404."""
        async with httpx2.AsyncClient(timeout=20) as client:
            answer = await client.request(method, f"{self.url}/api/" + "/".join(quote(part, safe="") for part in parts), json=body)
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        return answer.json() if answer.content else {}

    async def queue(self, name: str) -> Any:
        return await self.ask("GET", "queues", "/", name)

    async def bindings(self, exchange: str, queue: str) -> list[str]:
        return [each["routing_key"] for each in await self.ask("GET", "bindings", "/", "e", exchange, "q", queue) or ()]

    async def policy(self, name: str) -> Any:
        return await self.ask("GET", "policies", "/", name)

    async def send(self, queue: str) -> None:
        body = {"properties": {}, "routing_key": queue, "payload": "message", "payload_encoding": "string"}
        assert (await self.ask("POST", "exchanges", "/", "amq.default", "publish", body=body))["routed"]


@asynccontextmanager
async def relay(target: str) -> AsyncIterator["Relay"]:
    """A TCP relay to `host:port` that can be cut."""
    found = Relay(target)
    await found.open()
    try:
        yield found
    finally:
        await found.cut()


class Relay:
    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Nothing listens any more, and what was connected is cut off."""
        if self._server is not None:
            self._server.close()
            for task in [*self._tasks]:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        upstream_writer: asyncio.StreamWriter | None = None
        try:
            upstream, upstream_writer = await asyncio.open_connection(*self._target)
            await asyncio.wait(
                [asyncio.create_task(_pump(reader, upstream_writer)), asyncio.create_task(_pump(upstream, writer))],
                return_when=asyncio.FIRST_COMPLETED,
            )
        except OSError:
            pass
        finally:
            self._tasks.discard(task)
            for each in (writer, upstream_writer):
                if each is not None:
                    each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    except OSError:
        pass
