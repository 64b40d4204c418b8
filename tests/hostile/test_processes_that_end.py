"""Processes of a service that end or freeze at once: who reads meanwhile is answered by those that are left, or told
within two seconds.
"""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from caravan.clock import new_id
from tests.hostile.apart import Apart, apart
from tests.support.shop import wait_until

SLACK = 0.5
"""For the way there and back on a machine that does other things too."""


@pytest.fixture(scope="module")
async def shop() -> AsyncIterator[Apart]:
    async with apart() as found:
        yield found


async def _read(client: httpx2.AsyncClient, path: str, seen: Counter[int]) -> None:
    while True:
        seen[(await client.get(path)).status_code] += 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_reads_are_answered_while_two_of_three_processes_end_at_once(shop: Apart, how: signal.Signals) -> None:
    seen: Counter[int] = Counter()
    async with httpx2.AsyncClient(base_url=shop.program.url, timeout=30, trust_env=False) as client:
        for attempt in range(5):
            ending = await shop.more("inventory", 2)
            await asyncio.sleep(1.5)  # both are known and asked by now: places are read again every second
            reading = [asyncio.create_task(_read(client, f"/v1/stock/{shop.sku}", seen)) for _ in range(8)]
            try:
                await asyncio.sleep(0.5)
                for process in ending:
                    process.send_signal(how)
                await asyncio.gather(*(process.wait() for process in ending))
                await asyncio.sleep(2)
                assert not [task.exception() for task in reading if task.done()]
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
            assert set(seen) == {200}, (attempt, seen)


@contextmanager
def _frozen(*pids: int) -> Iterator[None]:
    """As on a machine whose disk hangs."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def _postgres(data: Path) -> list[int]:
    """With all of its processes."""
    [found] = [int(path.read_text().split()[0]) for path in data.rglob("postmaster.pid")]
    return [found, *(int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == found)]


def _redis(data: Path) -> list[int]:
    servers = (b"valkey-server", b"redis-server")
    lines = ((path, _read_bytes(path)) for path in Path("/proc").glob("[0-9]*/cmdline"))
    named = [path for path, line in lines if any(server in line for server in servers)]
    folder = str(data).encode()
    return [
        int(path.parent.name)
        for path in named
        if folder in _read_bytes(path) or folder in os.readlink(path.with_name("cwd")).encode()
    ]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc")
async def test_while_postgres_is_frozen_readiness_and_reads_answer_within_two_seconds(shop: Apart) -> None:
    paths = [
        "/v1/products?limit=1",
        f"/v1/products/{shop.sku}",
        f"/v1/stock/{shop.sku}",
        f"/v1/orders/{shop.order_id}",
        "/v1/orders",
        "/v1/users/me",
    ]
    seen: list[tuple[str, int, float]] = []
    settled = float("inf")

    async def ask(client: httpx2.AsyncClient, url: str) -> None:
        began = time.monotonic()
        answer = await client.get(url, headers=shop.who)
        seen.append((url, answer.status_code, time.monotonic() - began))
        if began > settled:
            sound = answer.status_code == 503 and (url.endswith("/readyz") or "retry-after" in answer.headers)
            assert sound, (url, answer.status_code, answer.text)

    async with httpx2.AsyncClient(timeout=60, trust_env=False) as client:
        for url in [f"{url}/readyz" for url in shop.urls.values()] + [shop.program.url + path for path in paths]:
            assert (await client.get(url, headers=shop.who)).status_code == 200, url
        with _frozen(*_postgres(shop.program.data)):
            settled = time.monotonic() + 1  # readiness is asked once a second
            for _ in range(3):
                await asyncio.gather(
                    *(ask(client, f"{url}/readyz") for url in shop.urls.values()),
                    *(ask(client, shop.program.url + path) for path in paths * 3),
                )
        assert max(seconds for _, _, seconds in seen) < 2 + SLACK, sorted(seen, key=lambda entry: entry[2])[-10:]

        async def back() -> bool:
            """Often enough that every breaker has seen its probes succeed, and is closed."""
            answers = [await client.get(shop.program.url + path, headers=shop.who) for path in paths * 3]
            return all(answer.status_code == 200 for answer in answers)

        await wait_until(back, seconds=30, every=0.2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds the server's processes in /proc")
async def test_while_redis_is_frozen_reads_orders_and_sign_ins_are_served(shop: Apart) -> None:
    """It holds hints, counters and copies; each is done without within its own short time."""
    paths = [
        "/v1/products?limit=1",
        f"/v1/products/{shop.sku}",
        f"/v1/stock/{shop.sku}",
        f"/v1/orders/{shop.order_id}",
        "/v1/users/me",
        "/readyz",
    ]
    email, password = f"{new_id()}@example.com", "a long enough password"
    form = {"grant_type": "password", "username": email, "password": password}
    async with httpx2.AsyncClient(base_url=shop.program.url, timeout=60, trust_env=False) as client:
        assert (
            await client.post("/v1/users", json={"email": email, "password": password, "name": "Ada Lovelace"})
        ).status_code == 201
        redis = _redis(shop.program.data)
        assert len(redis) == 1
        with _frozen(*redis):
            for _ in range(3):
                began = time.monotonic()
                answers = await asyncio.gather(
                    *(client.get(path, headers=shop.who) for path in paths * 3),
                    client.post("/v1/auth/token", data=form),
                    shop.program.place_order(shop.who, shop.sku),
                )
                took = time.monotonic() - began
                refused = [answer for answer in answers if answer.status_code not in {200, 202}]
                assert not refused, [(str(answer.url), answer.status_code, answer.text) for answer in refused]
                assert took < 2 + SLACK, took
