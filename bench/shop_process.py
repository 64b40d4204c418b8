"""The shop under test as processes: started on a folder and port of its own, and what it costs in memory, CPU and SQL
statements.
"""

import asyncio
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx2
import psutil

from caravan import embedded
from caravan.embedded import postgres, valkey
from caravan.embedded.paths import find_paths
from services.registry import SERVICES

START_SECONDS = 120
STOP_SECONDS = 60
UNLIMITED = {
    **{f"GATEWAY_{what}_PER_MINUTE": "100000000" for what in ("AUTH", "REGISTRATION", "ORDERS", "WRITES", "READS")},
    **{f"GATEWAY_MAX_STREAMS{of}": "60000" for of in ("", "_PER_CALLER", "_PER_ADDRESS")},
    "INVENTORY_MAX_STREAMS": "60000",
    "CARAVAN_MAX_CONNECTIONS": "20000",
    "CARAVAN_MAX_CONNECTIONS_PER_ADDRESS": "20000",
}
"""The gateway's limits guard it against one client; here one client is the whole town."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the shop is; `data` is its data folder when it runs on this machine."""

    url: str
    data: Path | None
    processes: tuple[int, ...] = ()
    """Where each service has its own."""
    metrics: tuple[str, ...] = ()
    """Whose `/metrics` together are the shop's; without any: those at `url`."""

    @property
    def address(self) -> tuple[str, int]:
        parts = httpx2.URL(self.url)
        return parts.host, parts.port or 80


@asynccontextmanager
async def start_own_shop(
    brokers: Mapping[str, str], *, apart: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Target]:
    """An empty shop in a temporary folder, stopped and removed afterwards: `caravan up`, or, `apart` or on brokers, a
    process per service.
    """
    apart = apart or bool(brokers)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="caravan-bench-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CARAVAN_")}
    environment |= {
        "CARAVAN_DATA": str(folder / "shop"),
        "CARAVAN_PORT": str(port),
        "CARAVAN_SEED": "none",
        **UNLIMITED,
        **brokers,
        **(settings or {}),
    }
    running: list[subprocess.Popen[bytes]] = []
    try:
        for name in SERVICES if apart else ("",):
            own_settings = {"CARAVAN_PORT": str(port if name == "gateway" else 0)} if name else {}
            running.append(
                _start_process(["run", name] if name else ["up"], environment | own_settings, folder / f"{name}log")
            )
            if len(running) < len(SERVICES) and name:
                await _wait_for_listening(
                    running[-1], folder / f"{name}log"
                )  # the first one starts the database, which the others join
        await _wait_for_ready(f"http://127.0.0.1:{port}", running[-1], folder / f"{name}log")
        logs = [folder / f"{name}log" for name in SERVICES] if apart else []
        addresses = tuple(re.findall(r"listening on (\S+)", log.read_text())[0] for log in logs)
        yield Target(
            f"http://127.0.0.1:{port}",
            folder / "shop",
            tuple(process.pid for process in running) if apart else (),
            addresses,
        )
    finally:
        for process in reversed(running):
            process.terminate()
        for process in reversed(running):
            try:
                await asyncio.to_thread(process.wait, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        await embedded.stop_orphans(folder / "shop")
        home = find_paths(folder / "shop").home
        shutil.rmtree(home, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)


def _start_process(arguments: Sequence[str], environment: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    with open(log, "wb") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "cli", *arguments], env=environment, stdout=output, stderr=subprocess.STDOUT
        )


async def _wait_for_listening(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while "listening on" not in log.read_text():
        if process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"a service did not start; its last words:\n{log.read_text()[-3000:]}")
        await asyncio.sleep(0.1)


async def _wait_for_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    async with httpx2.AsyncClient(base_url=url, timeout=5) as client:
        while time.monotonic() < end and process.poll() is None:
            try:
                if (await client.get("/readyz")).status_code == 200 and (
                    await client.get("/v1/products")
                ).status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.2)
    raise SystemExit(f"the shop did not start; its last words:\n{log.read_text()[-3000:]}")


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds (of all services and of each that has its own process), SQL statements, commits of Postgres, messages
    that a bus took, reads and writes of the app and, by service, messages that left an outbox within so many seconds,
    since the processes began. None where it can't be seen.
    """

    app_cpu: float | None
    postgres_cpu: float | None
    redis_cpu: float | None
    statements: float | None
    commits: float | None
    messages: float | None
    io_calls: float | None
    outbox: dict[str, dict[float, float]]
    services: dict[str, float]


def _find_servers(target: Target) -> dict[str, list[psutil.Process]]:
    if target.data is None:
        return {}
    data, paths = target.data, find_paths(target.data)
    roots = {"app": next(iter(embedded.find_users(data)), None)}
    for name, server in (("postgres", postgres.find_running(paths)), ("redis", valkey.find_running(paths))):
        roots[name] = server.process.pid if server else None
    processes: dict[str, list[psutil.Process]] = {}
    for name, pid in roots.items():
        if pid is not None:
            top = psutil.Process(pid)
            processes[name] = [top, *top.children(recursive=True)]
    others = {process.pid for name in ("postgres", "redis") for process in processes.get(name, [])}
    processes["app"] = [process for process in processes.get("app", []) if process.pid not in others]
    processes["app"] += [psutil.Process(pid) for pid in target.processes if pid != roots["app"]]
    return processes


async def measure_cost(target: Target) -> Cost:
    servers = _find_servers(target)
    text = await _fetch_metrics(target)
    statements = sum(float(value) for _, value in _parse_samples("caravan_database_statements_total", text)) or None
    outbox: dict[str, dict[float, float]] = defaultdict(dict)
    for labels, value in _parse_samples("caravan_outbox_lag_seconds_bucket", text):
        outbox[labels["service"]][float(labels["le"])] = float(value)
    messages = sum(float(value) for _, value in _parse_samples("caravan_messages_published_total", text)) or None
    seconds = {name: _sum_cpu_seconds(processes) for name, processes in servers.items() if processes}
    return Cost(
        app_cpu=seconds.get("app"),
        postgres_cpu=seconds.get("postgres"),
        redis_cpu=seconds.get("redis"),
        statements=statements,
        commits=await _count_commits(target),
        messages=messages,
        io_calls=_count_io_calls(servers.get("app", [])),
        outbox=dict(outbox),
        services={
            name: _sum_cpu_seconds([psutil.Process(pid)]) for name, pid in zip(SERVICES, target.processes, strict=False)
        },
    )


async def _count_commits(target: Target) -> float | None:
    servers = embedded.find_running(target.data) if target.data else None
    if servers is None:
        return None
    connection = await asyncpg.connect(servers.database_url)
    try:
        return float(await connection.fetchval("SELECT sum(xact_commit) FROM pg_stat_database"))
    finally:
        await connection.close()


def _count_io_calls(processes: list[psutil.Process]) -> float | None:
    """Reads and writes of files and sockets; None where the system does not count them."""
    try:
        counted = [process.io_counters() for process in processes]
    except (AttributeError, psutil.Error):
        return None
    return float(sum(each.read_count + each.write_count for each in counted)) or None


def _sum_cpu_seconds(processes: list[psutil.Process]) -> float:
    """Of the living, and of the first one's children that have ended."""
    total = 0.0
    for index, process in enumerate(processes):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + (times.children_user + times.children_system if index == 0 else 0.0)
    return total


async def _fetch_metrics(target: Target) -> str:
    """Empty where they can't be read."""
    texts = []
    async with httpx2.AsyncClient(timeout=30) as client:
        for url in target.metrics or (target.url,):
            response = await client.get(f"{url}/metrics")
            texts += [response.text] if response.status_code == 200 else []
    return "\n".join(texts)


def _parse_samples(name: str, text: str) -> Iterator[tuple[dict[str, str], str]]:
    for labels, value in re.findall(rf"^{name}\{{([^}}]*)\}} (\S+)$", text, re.MULTILINE):
        yield dict(re.findall(r'(\w+)="([^"]*)"', labels)), value


def measure_memory(target: Target) -> dict[str, float] | None:
    """Proportional set size in MiB by part: pages that processes share are counted once."""
    if target.data is None or not Path("/proc/self/smaps_rollup").exists():
        return None
    return {name: round(sum(map(_read_pss, processes)) / 1024, 1) for name, processes in _find_servers(target).items()}


def _read_pss(process: psutil.Process) -> int:
    """In KiB."""
    try:
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{process.pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(match[1]) if match else 0
