"""A thousand orders watched through two gateways, while Redis and the gateways are killed, one is deployed anew and
clients are away for half a minute: each client sees every change of its order, in order and once.
"""

import asyncio
import contextlib
import random
import re
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx2
import orjson
import psutil
import pytest

from caravan.clock import new_id
from caravan.embedded.paths import find_paths
from tests.support.backends.ready import free_ports
from tests.support.forks import Process
from tests.support.program import START_SECONDS, Program, launch_caravan
from tests.support.shop import wait_until

pytestmark = pytest.mark.slow

ORDERS = 1000
PLACED_AT_ONCE = 6
ABSENCE_SECONDS = 30.0
ABSENCE_CHANCE = 0.05
FAULT_SECONDS = 4.0
SERVICES = ("identity", "catalog", "inventory", "orders", "processing", "payments", "shipping")
SETTINGS = {
    "GATEWAY_MAX_STREAMS": "5000",
    "GATEWAY_MAX_STREAMS_PER_CALLER": "5000",
    "GATEWAY_MAX_STREAMS_PER_ADDRESS": "5000",
    "SHIPPING_PICKUP_SECONDS": "5",
    "SHIPPING_DELIVERY_SECONDS": "5",
    "CARAVAN_DRAIN_SECONDS": "2",
}
EVENT = re.compile(rb"id: (\d+)\nevent: (\w+)\ndata: (.*)")
CUT_OFF = (OSError, asyncio.IncompleteReadError, EOFError)


@dataclass
class Gateways:
    data: Path
    ports: list[int]
    running: dict[int, Process] = field(default_factory=dict)

    async def start(self, port: int) -> None:
        self.running[port], _ = await launch_caravan(
            ["run", "gateway"], {**SETTINGS, "CARAVAN_PORT": str(port)}, self.data, f"gateway-{port}"
        )

    async def replace(self, port: int, end: signal.Signals) -> None:
        self.running[port].send_signal(end)
        await self.running[port].wait()
        await self.start(port)


@dataclass
class Watcher:
    """One client of one order. `delays` are those of changes that came while it was connected."""

    order_id: str
    versions: list[int] = field(default_factory=list)
    status: str = ""
    connections: int = 0
    delays: list[float] = field(default_factory=list)

    async def follow(self, gateways: Gateways, authorization: str) -> None:
        while self.status != "delivered":
            with contextlib.suppress(*CUT_OFF):
                await self._watch(random.choice(gateways.ports), authorization)
            absence = (
                ABSENCE_SECONDS if self.versions and random.random() < ABSENCE_CHANCE else random.uniform(0.1, 1.0)
            )
            if self.status != "delivered":
                await asyncio.sleep(absence)

    async def _watch(self, port: int, authorization: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.time()
        leaves_after = random.randint(1, 6)
        try:
            writer.write(
                f"GET /v1/orders/{self.order_id}/events HTTP/1.1\r\nHost: shop\r\nAuthorization: {authorization}\r\n"
                f"Last-Event-ID: {self.versions[-1] if self.versions else 0}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                return
            self.connections += 1
            for _ in range(leaves_after):
                while (found := EVENT.search(block := await reader.readuntil(b"\n\n"))) is None:
                    assert b"event: reset" not in block, "its version is ours"
                self._take(int(found[1]), orjson.loads(found[3]), began)
                if self.status == "delivered":
                    return
        finally:
            writer.transport.abort()

    def _take(self, version: int, change: dict[str, str], began: float) -> None:
        self.versions.append(version)
        self.status = change["status"]
        committed = datetime.fromisoformat(change["time"]).timestamp()
        if committed > began:
            self.delays.append(time.time() - committed)


@pytest.fixture
async def gateways(tmp_path: Path) -> AsyncIterator[Gateways]:
    made, services = Gateways(tmp_path, free_ports(2)), []
    try:
        for name in SERVICES:  # the first one starts the database, which the others join
            services.append((await launch_caravan(["run", name], SETTINGS, tmp_path, name))[0])
        for port in made.ports:
            await made.start(port)
        yield made
    finally:
        await Program("http://127.0.0.1:1", tmp_path, [*made.running.values(), *services]).stop()


async def _place(gateways: Gateways, sku: str, watchers: list[Watcher], authorization: str) -> None:
    """One order, asked for again with its key until a gateway answers."""
    key, who = str(new_id()), {"authorization": authorization}
    while True:
        program = Program(f"http://127.0.0.1:{random.choice(gateways.ports)}", gateways.data, [])
        try:
            answer = await program.place_order(who, sku, key=key)
            if answer.status_code == 202:
                watchers.append(Watcher(answer.json()["id"]))
                return
        except httpx2.HTTPError:
            pass
        finally:
            await program.client.aclose()
        await asyncio.sleep(0.2)


async def _has_routes(program: Program) -> bool:
    paths = (await program.client.get("/openapi.json")).json()["paths"]
    return bool({"/v1/users", "/v1/products", "/v1/stock/{sku}", "/v1/orders", "/v1/auth/token"} <= paths.keys())


async def _inject_faults(gateways: Gateways, counts: dict[str, int]) -> None:
    pid_file = find_paths(gateways.data).home / "redis" / "redis.pid"
    while True:
        for fault in ("redis", "gateway killed", "gateway deployed"):
            await asyncio.sleep(FAULT_SECONDS)
            if fault == "redis":
                psutil.Process(int(pid_file.read_text())).kill()
            else:
                end = signal.SIGKILL if fault == "gateway killed" else signal.SIGTERM
                await gateways.replace(random.choice(gateways.ports), end)
            counts[fault] = counts.get(fault, 0) + 1


async def test_each_client_sees_every_change_in_order_whatever_is_killed(gateways: Gateways) -> None:
    first = Program(f"http://127.0.0.1:{gateways.ports[0]}", gateways.data, [])
    await wait_until(lambda: _has_routes(first), seconds=START_SECONDS, every=0.2)
    sku = await first.create_product(stock=ORDERS)
    customer = (await first.register_customer())["authorization"]
    staff = (await first.authorize_operator())["authorization"]
    watchers: list[Watcher] = []
    slots = asyncio.Semaphore(PLACED_AT_ONCE)
    counts: dict[str, int] = {}

    async def place_and_follow() -> None:
        async with slots:
            placed: list[Watcher] = []
            await _place(gateways, sku, placed, customer)
        watchers.extend(placed)
        await placed[0].follow(gateways, staff)

    breaking = asyncio.create_task(_inject_faults(gateways, counts))
    try:
        async with asyncio.timeout(1800):
            await asyncio.gather(*(place_and_follow() for _ in range(ORDERS)))
    finally:
        breaking.cancel()
        await asyncio.gather(breaking, return_exceptions=True)
        await first.client.aclose()
    delays = sorted(delay for watcher in watchers for delay in watcher.delays)
    connections = sum(watcher.connections for watcher in watchers)
    p50, p95 = delays[len(delays) // 2], delays[len(delays) * 95 // 100]
    print(f"{ORDERS} orders, {connections} connections, {counts}; {len(delays)} live: p50 {p50:.2f} s, p95 {p95:.2f} s")
    assert all(watcher.versions == list(range(1, len(watcher.versions) + 1)) for watcher in watchers)
    assert connections > ORDERS, "nobody was cut off"
    assert counts.keys() == {"redis", "gateway killed", "gateway deployed"}
