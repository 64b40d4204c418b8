"""A soak: a shop, each service in a process of its own, under light constant load for hours, in parts that go on where
the last one was stopped. What each process and table has is written down now and then.

Messages and answers are kept for days before they are pruned, so nothing would be pruned in hours. What is older than
`age_minutes` is therefore made as old as that: the shop then prunes it as it prunes everything.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from pathlib import Path

import asyncpg
import httpx2
import orjson
import psutil
from redis.asyncio import Redis

from caravan.audit import AUDIT
from caravan.database import INBOX_RETENTION, RESPONSE_RETENTION
from caravan.embedded import postgres, valkey
from caravan.embedded.paths import find_paths
from caravan.jobs.redis import PREFIX
from caravan.messages import Topic
from caravan.runtime import BUS, Backends
from services.registry import SERVICES, load_services
from tests.faults.invariants import at_rest, backends_of, violations
from tests.load.trends import Sample
from tests.support.program import Program, run_process_per_service
from tests.support.shop import wait_until

SETTINGS = {"SHIPPING_PICKUP_SECONDS": "1.0", "SHIPPING_DELIVERY_SECONDS": "0.5"}
TOKENS = ("tok_ok", "tok_ok", "tok_ok", "tok_ok", "tok_declined", "tok_flaky")
KEPT_LONG = timedelta(days=31)
"""Topics that are kept for longer grow, as they should: read models are made anew from them."""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
BOUNDED = ("inbox", "outbox", "idempotency")
REST_SECONDS = 300


@dataclass(frozen=True, slots=True)
class SoakPlan:
    minutes: float
    orders_per_second: float = 1.0
    sample_seconds: float = 60.0
    age_minutes: float = 5.0


@dataclass
class Soak:
    """`folder`: keeps the shop and all that was measured, from part to part."""

    plan: SoakPlan
    folder: Path
    samples: list[Sample] = field(default_factory=list)
    orders: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)
    """Answers that a shop under light load has no reason for."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (file := self.folder / "samples.jsonl").exists():
            self.samples = [Sample(**orjson.loads(line)) for line in file.read_bytes().splitlines()]
        if (file := self.folder / "orders.txt").exists():
            self.orders = set(file.read_text().split())

    @property
    def hours(self) -> float:
        """That were measured, in all parts."""
        return self.samples[-1].at if self.samples else 0.0

    async def run(self) -> list[str]:
        """The rest of it, as a part of its own; what is wrong afterwards."""
        part = self.samples[-1].part + 1 if self.samples else 0
        data = self.folder / "shop"
        async with run_process_per_service(data, **SETTINGS) as program:
            backends = backends_of(data)
            customers = asyncio.create_task(self._order(program))
            try:
                async with watch_servers(data) as servers:
                    await self._measure(part, self.hours, program, servers, backends, customers)
            finally:
                customers.cancel()
                with suppress(asyncio.CancelledError):
                    await customers

            async def has_come_to_rest() -> bool:
                assert (remaining := await at_rest(backends)) == "", remaining
                return True

            await wait_until(has_come_to_rest, seconds=REST_SECONDS, every=0.5)
            return self.unexpected + await violations(backends, self.orders)

    async def _measure(
        self,
        part: int,
        hours_before: float,
        program: Program,
        servers: dict[str, psutil.Process],
        backends: Backends,
        customers: asyncio.Task[None],
    ) -> None:
        began = time.monotonic()
        roots = {name: psutil.Process(each.pid) for name, each in zip(SERVICES, program.processes, strict=True)}
        while self.hours * 60 < self.plan.minutes:
            await asyncio.wait([customers], timeout=self.plan.sample_seconds)
            if customers.done():
                customers.result()
            await age_rows(backends, timedelta(minutes=self.plan.age_minutes))
            sample = Sample(
                part,
                hours_before + (time.monotonic() - began) / 3600,
                {name: measure_process(each) for name, each in (roots | servers).items()},
                await count_rows(backends),
            )
            self.samples.append(sample)
            with (self.folder / "samples.jsonl").open("ab") as out:
                out.write(orjson.dumps(asdict(sample)) + b"\n")
            memory = sum(each["memory"] for each in sample.processes.values())
            print(
                f"{sample.at * 60:6.1f} min  {len(self.orders)} orders  {memory:.0f} MiB  "
                f"{sum(sample.tables.values())} rows",
                flush=True,
            )

    async def _order(self, program: Program) -> None:
        """Orders at the plan's rate, a look at each, and now and then a cancellation."""
        chance = random.Random(len(self.orders))
        sku = await program.create_product(stock=1_000_000)
        who, signed_in_at = await program.register_customer(), time.monotonic()
        while True:
            due = time.monotonic() + 1 / self.plan.orders_per_second
            if time.monotonic() - signed_in_at > 300:
                who, signed_in_at = await program.register_customer(), time.monotonic()
            answer = await program.place_order(who, sku, token=chance.choice(TOKENS))
            if answer.status_code != 202:
                self.unexpected.append(f"an order was answered {answer.status_code}: {answer.text[:200]}")
            else:
                order_id = answer.json()["id"]
                self.orders.add(order_id)
                with (self.folder / "orders.txt").open("a") as out:
                    out.write(f"{order_id}\n")
                await self._browse_shop(program, who, order_id, sku, chance)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _browse_shop(
        self, program: Program, who: dict[str, str], order_id: str, sku: str, chance: random.Random
    ) -> None:
        paths = (f"/v1/orders/{order_id}", "/v1/products", f"/v1/stock/{sku}", "/v1/me/overview", "/v1/recommendations")
        answers: list[httpx2.Response] = [await program.client.get(chance.choice(paths), headers=who)]
        if chance.random() < 0.05:
            answers.append(await program.client.post(f"/v1/orders/{order_id}/cancel", headers=who))
        self.unexpected += [
            f"{answer.request.method} {answer.request.url.path} was answered {answer.status_code}"
            for answer in answers
            if answer.status_code >= 500 or answer.status_code == 429
        ]


@asynccontextmanager
async def watch_servers(data: Path) -> AsyncIterator[dict[str, psutil.Process]]:
    """The embedded Postgres and Valkey."""
    paths = find_paths(data.resolve())
    found = {"postgres": postgres.find_running(paths), "valkey": valkey.find_running(paths)}
    yield {name: server.process for name, server in found.items() if server is not None}


def measure_process(process: psutil.Process) -> dict[str, float]:
    """MiB that are its own (`memory`, also where they were swapped out) and that are in the machine's memory
    (`resident`, which falls when others need it), open files and threads. Without its children: the servers are those
    of the first service, and Postgres' own come and go with connections.
    """
    resident = process.memory_info().rss / 2**20
    return {
        "memory": read_own_memory(process.pid) or resident,
        "resident": resident,
        "handles": float(process.num_fds()),
        "threads": float(process.num_threads()),
    }


def read_own_memory(pid: int) -> float | None:
    """In MiB: pages that belong to no file, in memory or swapped out. None where the system doesn't say."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) for name in ("RssAnon", "VmSwap")) / 1024


def list_pruned_topics() -> dict[str, timedelta]:
    """With how long they are kept."""
    channels = [AUDIT, *(channel for service in load_services() for channel in service.channels)]
    return {each.name: each.retention for each in channels if isinstance(each, Topic) and each.retention <= KEPT_LONG}


def list_bounded_tables() -> list[str]:
    """Those that must not grow: old rows are removed from them."""
    names = [database.name for service in load_services() for database in service.databases]
    return [
        *(f"{name}.{table}" for name in names for table in BOUNDED),
        *(f"{BUS}.topic_log {topic}" for topic in list_pruned_topics()),
        f"{BUS}.delivery",
        f"{BUS}.dead_letter",
    ]


def list_kept_jobs() -> dict[str, int]:
    """How many finished jobs of each queue are kept, by how they ended."""
    declared = [job for service in load_services() if service.jobs for job in service.jobs.job_types.values()]
    return {f"valkey.{job.name} completed": job.keep_completed for job in declared} | {
        f"valkey.{job.name} failed": job.keep_failed for job in declared
    }


async def count_rows(backends: Backends) -> dict[str, int]:
    """Of every table, as `database.table`, of the topics apart, and the finished jobs."""
    found: dict[str, int] = {}
    for name in list_databases():
        async with connect(backends, name) as connection:
            for table in [row[0] for row in await connection.fetch(TABLES)]:
                if (name, table) != (BUS, "topic_log"):
                    found[f"{name}.{table}"] = await connection.fetchval(f'SELECT count(*) FROM "{table}"')
            if name == BUS:
                for topic, count in await connection.fetch("SELECT topic, count(*) FROM topic_log GROUP BY 1"):
                    found[f"{BUS}.topic_log {topic}"] = count
    async with Redis.from_url(backends.redis_url) as redis:
        for name in list_kept_jobs():
            queue, end = name.removeprefix("valkey.").split()
            found[name] = await redis.zcard(f"{PREFIX}:{queue}:{end}")
        found["valkey.keys"] = await redis.dbsize()
    return found


async def age_rows(backends: Backends, age: timedelta) -> None:
    """Make what is older than `age` as old as what is pruned."""
    for name in list_databases():
        async with connect(backends, name) as connection:
            if name == BUS:
                for topic, kept in list_pruned_topics().items():
                    await connection.execute(
                        "UPDATE topic_log SET published_at = published_at - $2::interval WHERE topic = $1 AND "
                        "published_at BETWEEN now() - $2::interval AND now() - $3::interval",
                        *(topic, kept, age),
                    )
            elif await connection.fetchval("SELECT to_regclass('public.inbox') IS NOT NULL"):
                await connection.execute(
                    "UPDATE inbox SET handled_at = handled_at - $1::interval WHERE handled_at BETWEEN now() - "
                    "$1::interval AND now() - $2::interval",
                    *(INBOX_RETENTION, age),
                )
                await connection.execute(
                    "UPDATE idempotency SET expires_at = expires_at - $1::interval WHERE expires_at BETWEEN now() AND "
                    "now() + $1::interval - $2::interval",
                    *(RESPONSE_RETENTION, age),
                )


def list_databases() -> Iterator[str]:
    yield from (database.name for service in load_services() for database in service.databases)
    yield BUS


@asynccontextmanager
async def connect(backends: Backends, database: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(backends.get_database_url(database))
    try:
        yield connection
    finally:
        await connection.close()
