"""What this machine can do at most, measured beside the shop in the same run: a fixed loop, one INSERT with its commit,
and the load task as a process.
"""

import asyncio
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from bench.shop_process import Target
from caravan import embedded

SPIN_ROUNDS = 3_000_000


def measure_spin() -> float:
    """Seconds of a fixed loop: tells how fast the machine was at this moment."""
    started = time.perf_counter()
    total = 0
    for number in range(SPIN_ROUNDS):
        total += number & 7
    return time.perf_counter() - started


async def run_load(task: dict[str, Any], module: str = "bench.load") -> dict[str, Any]:
    """Run a load generator as a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 30
    )
    output, _ = await process.communicate(json.dumps(task).encode())
    if process.returncode:
        raise SystemExit(f"the load generator ended with status {process.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


async def measure_empty_endpoint(target: Target, clients: int, seconds: float) -> float:
    """Requests a second to an endpoint that does nothing, by the same server and load generator."""
    host, port = target.address
    task = {
        "kind": "get",
        "paths": ["/livez"],
        "host": host,
        "port": port,
        "clients": clients,
        "seconds": seconds,
        "warm_up": 0.5,
        "seed": 1,
        "tokens": [],
    }
    result = await run_load(task)
    return float(result["requests"]) / seconds


async def measure_inserts(target: Target, clients: int, seconds: float) -> float | None:
    """One-row INSERTs a second, each with its commit, on the shop's own Postgres over so many connections."""
    servers = embedded.find_running(target.data) if target.data else None
    if servers is None:
        return None
    admin = await asyncpg.connect(servers.database_url)
    try:
        await admin.execute("DROP DATABASE IF EXISTS bench_ceiling")
        await admin.execute("CREATE DATABASE bench_ceiling")
        try:
            return await _count_inserts(
                urlsplit(servers.database_url)._replace(path="/bench_ceiling").geturl(), clients, seconds
            )
        finally:
            await admin.execute("DROP DATABASE bench_ceiling WITH (FORCE)")
    finally:
        await admin.close()


async def _count_inserts(url: str, clients: int, seconds: float) -> float:
    pool = await asyncpg.create_pool(url, min_size=clients, max_size=clients)
    count = 0

    async def insert_rows() -> None:
        nonlocal count
        async with pool.acquire() as connection:
            statement = await connection.prepare("INSERT INTO ceiling (body) VALUES ($1)")
            while time.perf_counter() < ends_at:
                await statement.fetch("an order of about this many characters, give or take a few")
                count += 1

    async with pool:
        await pool.execute(
            "CREATE TABLE ceiling (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body text NOT NULL)"
        )
        ends_at = time.perf_counter() + seconds
        await asyncio.gather(*(insert_rows() for _ in range(clients)))
    return count / seconds
