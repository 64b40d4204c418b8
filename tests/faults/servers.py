"""Postgres, Kafka, RabbitMQ and Redis as containers that a test can kill and start again: what they had written is
still there.
"""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg
import pytest
from redis.asyncio import Redis

from tests.support.backends import Unavailable
from tests.support.backends.containers import KAFKA_IMAGE, RABBITMQ_IMAGE, kafka_options, rabbitmq_options, ready
from tests.support.backends.ready import free_ports, kafka_answers, rabbitmq_version, run
from tests.support.shop import wait_until

POSTGRES_IMAGE, REDIS_IMAGE = "postgres:17", "redis:8"
RUN_KAFKA = "/etc/kafka/docker/run || exec /opt/kafka/bin/kafka-server-start.sh /opt/kafka/config/server.properties"
"""Not every build of the image starts where its data is already; what it set up the first time is still there then."""


@dataclass(frozen=True, slots=True)
class Server:
    """One container. `answers` says whether it serves."""

    container: str
    url: str
    answers: Callable[[], bool]

    async def kill(self) -> None:
        await asyncio.to_thread(run, ["docker", "kill", self.container], 60)

    async def start(self) -> None:
        await asyncio.to_thread(run, ["docker", "start", self.container], 60)
        await self.ready()

    async def ready(self) -> None:
        async def serves() -> bool:
            return await asyncio.to_thread(self.answers)

        await wait_until(serves, seconds=90, every=0.3)


@dataclass(frozen=True, slots=True)
class Servers:
    postgres: Server
    kafka: Server
    rabbitmq: Server
    redis: Server
    console: str
    """RabbitMQ's management API."""

    def settings(self) -> dict[str, str]:
        """The environment of a service that uses them."""
        return {
            "CARAVAN_DATABASE_URL": self.postgres.url,
            "CARAVAN_KAFKA_URL": self.kafka.url,
            "CARAVAN_RABBITMQ_URL": self.rabbitmq.url,
            "CARAVAN_RABBITMQ_MANAGEMENT_URL": self.console,
            "CARAVAN_REDIS_URL": self.redis.url,
        }


def _postgres_answers(url: str) -> bool:
    async def ask() -> None:
        await (await asyncpg.connect(url, timeout=3)).close()

    return _does(ask)


def _redis_answers(url: str) -> bool:
    async def ask() -> None:
        async with Redis.from_url(url, socket_timeout=3) as redis:
            await redis.set("ready", "yes")

    return _does(ask)


def _does(ask: Callable[[], object]) -> bool:
    try:
        asyncio.run(asyncio.wait_for(ask(), 5))  # type: ignore[arg-type]
        return True
    except Exception:  # whatever it is, it is not ready
        return False


class Containers:
    """The containers of one test, and the ports that they publish."""

    def __init__(self) -> None:
        self.labels: list[str] = []
        self.postgres, self.kafka, self.amqp, self.management, self.redis = free_ports(5)

    def start_servers(self) -> Servers:
        database = f"postgresql://postgres:postgres@127.0.0.1:{self.postgres}/postgres"
        broker = f"127.0.0.1:{self.kafka}"
        console = f"http://caravan:caravan@127.0.0.1:{self.management}"
        cache = f"redis://127.0.0.1:{self.redis}/0"
        return Servers(
            self._start(
                ("postgres", database, lambda: _postgres_answers(database)),
                POSTGRES_IMAGE,
                [f"--publish=127.0.0.1:{self.postgres}:5432", "--env=POSTGRES_PASSWORD=postgres", "--shm-size=256m"],
                "-cmax_connections=400",
            ),
            self._start(
                ("kafka", broker, lambda: kafka_answers(broker)),
                KAFKA_IMAGE,
                kafka_options(self.kafka),
                *("bash", "-c", RUN_KAFKA),
            ),
            self._start(
                ("rabbitmq", f"amqp://caravan:caravan@127.0.0.1:{self.amqp}/", lambda: bool(rabbitmq_version(console))),
                RABBITMQ_IMAGE,
                rabbitmq_options(self.amqp, self.management),
            ),
            self._start(
                ("redis", cache, lambda: _redis_answers(cache)),
                REDIS_IMAGE,
                [f"--publish=127.0.0.1:{self.redis}:6379"],
                *("redis-server", "--appendonly", "yes"),
            ),
            console,
        )

    def _start(
        self, server: tuple[str, str, Callable[[], bool]], image: str, options: list[str], *command: str
    ) -> Server:
        name, url, answers = server
        label = f"caravan-faults-{name}-{os.getpid()}"
        run(["docker", "run", "--detach", "--name", label, *options, image, *command], 60)
        self.labels.append(label)
        return Server(label, url, answers)

    async def remove(self) -> None:
        for label in self.labels:
            await asyncio.to_thread(
                subprocess.run,
                ["docker", "rm", "--force", "--volumes", label],
                capture_output=True,
                timeout=60,
                stdin=subprocess.DEVNULL,
            )


@asynccontextmanager
async def servers() -> AsyncIterator[Servers]:
    """All four, fresh. Skips the test where no container engine has them."""
    containers = Containers()
    try:
        try:
            for image in (POSTGRES_IMAGE, KAFKA_IMAGE, RABBITMQ_IMAGE, REDIS_IMAGE):
                await asyncio.to_thread(ready, image)
        except Unavailable as reason:
            pytest.skip(f"no containers to kill: {reason}")
        made = containers.start_servers()
        await asyncio.gather(*(server.ready() for server in (made.postgres, made.kafka, made.rabbitmq, made.redis)))
        yield made
    finally:
        await containers.remove()
