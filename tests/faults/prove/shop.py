"""The shop of a proof: each service in a process of its own, each of its links to a server through a proxy, and all
servers ours to kill. All of it lives in one folder, where an interrupted proof goes on.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import orjson
import psutil
from redis.asyncio import Redis
from redis.exceptions import RedisError

from caravan import embedded
from caravan.embedded import postgres, valkey
from caravan.embedded.paths import find_paths
from caravan.runtime import Backends, run_migrations
from services.registry import SERVICES, load_services
from tests.faults.invariants import Wire, rows
from tests.faults.prove.brokers import PORTS, USER, Brokers, open_brokers
from tests.faults.prove.kinds import BROKERS
from tests.faults.prove.proxy import Proxy
from tests.faults.prove.wires import BrokerWire, EmbeddedWire
from tests.support.backends.ready import find_lasting_ports
from tests.support.forks import Process
from tests.support.program import Program, launch_caravan
from tests.support.shop import wait_until

SECRET = "a secret of the proof, nowhere else used"
START_SECONDS = 180
STOP_SECONDS = 60
SETTINGS = {
    "CARAVAN_SECRET": SECRET,
    "CARAVAN_MIGRATE": "false",
    "CARAVAN_FAULTS": "true",
    "SHIPPING_PICKUP_SECONDS": "1.0",
    "SHIPPING_DELIVERY_SECONDS": "0.2",
    "PAYMENTS_RETRY_SECONDS": "[0.2,0.5,1.0,2.0]",
    "PROCESSING_STEP_TIMEOUT_SECONDS": "5",
}


@dataclass
class ProvenShop:
    data: Path
    backends: Backends
    ports: dict[str, int]
    proxies: dict[str, Proxy]
    """By link: `orders>postgres`."""
    brokers: Brokers | None = None
    traces_url: str = ""
    """Where processes send their spans; nowhere when it is empty."""
    running: dict[str, Process] = field(default_factory=dict)
    ended_by_themselves: list[str] = field(default_factory=list)
    program: Program = field(init=False)

    def build_settings(self, service: str) -> dict[str, str]:
        database, redis = urlsplit(self.backends.database_url), urlsplit(self.backends.redis_url)
        postgres_port, redis_port = self.proxies[f"{service}>postgres"].port, self.proxies[f"{service}>redis"].port
        return {
            **SETTINGS,
            "CARAVAN_DATABASE_URL": f"postgresql://postgres:{database.password}@127.0.0.1:{postgres_port}/postgres",
            "CARAVAN_REDIS_URL": f"redis://:{redis.password}@127.0.0.1:{redis_port}/0",
            "CARAVAN_PORT": str(self.ports[service]),
            "CARAVAN_OTLP_ENDPOINT": self.traces_url,
            **self._build_broker_settings(service),
        }

    def _build_broker_settings(self, service: str) -> dict[str, str]:
        if self.brokers is None:
            return {}
        kafka, rabbitmq = self.proxies[f"{service}>kafka"].port, self.proxies[f"{service}>rabbitmq"].port
        return {
            "CARAVAN_KAFKA_URL": f"127.0.0.1:{kafka}",
            "CARAVAN_RABBITMQ_URL": f"amqp://{USER}@127.0.0.1:{rabbitmq}/",
            "CARAVAN_RABBITMQ_MANAGEMENT_URL": self.brokers.management_url,
        }

    @property
    def wire(self) -> Wire:
        """What carries the messages, beside the proxies."""
        if self.brokers is None:
            return EmbeddedWire(self.backends)
        return BrokerWire(self.backends, self.brokers.kafka_url, self.brokers.rabbitmq_url)

    async def start(self, service: str, **settings: str) -> None:
        self.running[service] = await self.launch(service, service, **settings)

    async def launch(self, service: str, name: str, **settings: str) -> Process:
        """A process of this service; `name`: of its log. One that loads a library of another kind is no fork."""
        process, _ = await launch_caravan(
            ["run", service],
            {**self.build_settings(service), **settings},
            self.data,
            name,
            seconds=START_SECONDS,
            forked="LD_PRELOAD" not in settings,
        )
        return process

    async def stop(self, service: str) -> int | None:
        """As an operator does it; its exit code."""
        self.running[service].terminate()
        try:
            await asyncio.wait_for(self.running[service].wait(), STOP_SECONDS)
        except TimeoutError:
            self.running[service].kill()
            await self.running[service].wait()
        return self.running[service].returncode

    async def start_all(self) -> None:
        for first in range(0, len(SERVICES), 3):
            await asyncio.gather(*(self.start(service) for service in SERVICES[first : first + 3]))

    def kill_all(self) -> None:
        for process in self.running.values():
            if process.returncode is None:
                process.kill()

    async def restart_dead(self) -> None:
        """As Kubernetes does it: what has ended without being told to is started again, and noted."""
        for service, process in list(self.running.items()):
            if process.returncode is not None:
                self.ended_by_themselves.append(f"{service}: {process.returncode}")
                await self.start(service)

    def find_server(self, name: str) -> psutil.Process | None:
        paths = find_paths(self.data.resolve())
        server = postgres.find_running(paths) if name == "postgres" else valkey.find_running(paths)
        return server.process if server else None

    async def wait_for_server(self, name: str, other_than: int) -> psutil.Process:
        async def find() -> psutil.Process | None:
            server = self.find_server(name)
            return server if server and server.pid != other_than else None

        return await wait_until(find, seconds=START_SECONDS, every=0.1)

    async def wait_until_served(self) -> None:
        """A server that is there again may still be reading its log."""

        async def answers() -> bool:
            try:
                await rows(self.backends, "orders", "SELECT 1")
                async with Redis.from_url(self.backends.redis_url) as redis:
                    return bool(await redis.ping())
            except (asyncpg.PostgresError, OSError, RedisError) as error:
                raise AssertionError(repr(error)) from error

        await wait_until(answers, seconds=START_SECONDS, every=0.1)

    def signal_server(self, name: str, number: signal.Signals) -> list[int]:
        """To the server with all its children; their ids."""
        server = self.find_server(name)
        if server is None:
            return []
        family = [server, *server.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return [process.pid for process in family]


@asynccontextmanager
async def open_shop(data: Path, size: str, traces_url: str) -> AsyncIterator[ProvenShop]:
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    (data / "secret").write_text(SECRET)
    servers = ("postgres", "redis", "kafka", "rabbitmq") if size == BROKERS else ("postgres", "redis")
    links = [f"{service}>{server}" for service in SERVICES for server in servers]
    ports = _remember_ports(data / "ports.json", [*SERVICES, *links, *(PORTS if size == BROKERS else ())])
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(embedded.start(data, secret=SECRET, announce=lambda _: None))
        proxies = {link: Proxy(_find_target(urls, ports, link), ports[link]) for link in links}
        for proxy in proxies.values():
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        brokers = await stack.enter_async_context(open_brokers(data, ports)) if size == BROKERS else None
        backends = Backends(urls.database_url, urls.redis_url, SECRET)
        await run_migrations(load_services(), backends)
        shop = ProvenShop(data, backends, ports, proxies, brokers, traces_url)
        stack.callback(shop.kill_all)
        await shop.start_all()
        shop.program = Program(f"http://127.0.0.1:{ports['gateway']}", data, [])
        stack.push_async_callback(shop.program.client.aclose)
        yield shop
        for service in reversed(SERVICES):
            await shop.stop(service)


def _remember_ports(file: Path, names: list[str]) -> dict[str, int]:
    """Tokens name the address that issued them, also in the life after an interruption."""
    if file.exists():
        known: dict[str, int] = orjson.loads(file.read_bytes())
        return known
    ports = dict(zip(names, find_lasting_ports(len(names)), strict=True))
    file.write_bytes(orjson.dumps(ports))
    return ports


def _find_target(urls: embedded.ServerUrls, ports: Mapping[str, int], link: str) -> Callable[[], tuple[str, int]]:
    service, _, server = link.partition(">")
    targets = {"kafka": ports.get(f"kafka for {service}", 0), "rabbitmq": ports.get("rabbitmq", 0)}

    def get_target() -> tuple[str, int]:
        if server == "postgres":
            query = urlsplit(urls.database_url).query
            port = dict(part.split("=") for part in query.split("&"))["port"] if query else None
            return "127.0.0.1", int(port or urlsplit(urls.database_url).port or 0)
        if server == "redis":
            return "127.0.0.1", int(urlsplit(urls.redis_url).port or 0)
        return "127.0.0.1", targets[server]

    return get_target
