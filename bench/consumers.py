"""`python -m bench.consumers KAFKA AMQP`: what a message costs a consumer on real brokers, with its inbox, its effect and its commit; and how late messages are.

A backlog is published first. Then a process of its own handles it, and its CPU seconds are counted from the first message to the last: messages a second of half a
core are half of messages per CPU second, whatever else runs on the machine. Afterwards it sends messages through its outbox at a fixed rate (open loop) and
takes them back; the time from the commit's clock to the handler is what a reader sees of outbox, broker and batches together.
"""

import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bench.ceilings import spin
from bench.rounds import at_most, growth, percentiles
from caravan import embedded, telemetry
from caravan.bus.brokers import Brokers
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.clock import new_id, utc_now
from caravan.database import Database, UnitOfWork
from caravan.inbox import Consumers
from caravan.messages import Command, Delivery, Event, Outgoing, Queue, Topic, encode
from caravan.runtime import Backends, Process, declare, migrate
from caravan.service import Context, DatabaseDeclaration, Service
from caravan.settings import Settings
from services.identity.client import KEYS

KEYS_IN_USE = 1000
PUBLISHED_AT_ONCE = 500
DEADLINE_SECONDS = 600
COMMIT_SECONDS = 10
RESULTS = Path(__file__).parent / "results"
FASTSTREAM = {"topic": 585, "queue": 972}
"""FastStream's own published events a second of half a CPU (0.6.0rc0, aiokafka and RabbitMQ): without an inbox, an effect or a database."""


class Counted(Event):
    number: int
    note: str


class Count(Command):
    number: int
    note: str


def channel(kind: str, name: str) -> Topic | Queue:
    if kind == "topic":
        return Topic(f"bench-{name}", "bench", (Counted,), "key", "bench", partitions=1)
    return Queue(f"bench.{name}", "bench", (Count,), "key", "bench")


def message(kind: str, number: int) -> Counted | Count:
    return (Counted if kind == "topic" else Count)(number=number, note="x" * 100)


class Reader:
    """A service with one consumer, which adds up what it sees per key."""

    def __init__(self, source: Topic | Queue, batch: int) -> None:
        self.seen = 0
        self.began = self.cpu = 0.0
        self.late: list[float] = []
        consume = Consumers("bench") if batch > 1 else Consumers("bench", linger=0)

        @consume(source, batch=batch)
        async def count(_: Context[Any, Any], work: UnitOfWork, deliveries: list[Delivery[Counted | Count]]) -> None:
            if not self.seen:
                self.began, self.cpu = time.perf_counter(), time.process_time()
            await work.execute(
                "INSERT INTO tally SELECT key, count(*) FROM unnest($1::text[]) AS key GROUP BY key ORDER BY key "
                "ON CONFLICT (key) DO UPDATE SET seen = tally.seen + excluded.seen",
                [delivery.key for delivery in deliveries],
            )
            now = utc_now()
            self.late += [(now - delivery.time).total_seconds() for delivery in deliveries]
            self.seen += len(deliveries)

        databases = (DatabaseDeclaration("bench", Path(__file__).parent / "versions"),)
        self.service = Service("bench", databases=databases, consumers=consume, channels=(source,))


async def _reach(reader: Reader, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while reader.seen < count:
            await asyncio.sleep(0.01)


async def _committed(database: Database, count: int) -> int:
    """Effects, once they are as many as the messages, or after a while."""
    end = time.perf_counter() + COMMIT_SECONDS
    while True:
        counted = int(await database.fetchval("SELECT coalesce(sum(seen), 0) FROM tally"))
        if counted == count or time.perf_counter() > end:
            return counted
        await asyncio.sleep(0.02)


async def measure(task: dict[str, Any]) -> dict[str, Any]:
    """In the measured process."""
    telemetry.configure_logs("error", "text")
    source = channel(task["kind"], task["name"])
    reader = Reader(source, task["batch"])
    kernel = Settings(kafka_url=task["kafka"], rabbitmq_url=task["amqp"], rabbitmq_management_url=task["management"] or None)
    servers = Backends(task["database"], task["redis"], task["secret"])
    async with Process([reader.service], kernel, servers, KEYS, "http://bench.invalid") as process:
        database = process.contexts["bench"].database
        await _reach(reader, task["count"])
        counted = await _committed(database, task["count"])
        cpu, wall = time.process_time() - reader.cpu, time.perf_counter() - reader.began
        reader.late.clear()
        lag = _outbox()
        began = time.perf_counter()
        for number in range(int(task["rate"] * task["seconds"])):
            await asyncio.sleep(max(0.0, began + number / task["rate"] - time.perf_counter()))
            async with database.work() as work:
                work.emit(source, message(task["kind"], number), key=str(number % KEYS_IN_USE))
        await _reach(reader, task["count"] + int(task["rate"] * task["seconds"]))
        outbox = at_most(growth(lag, _outbox()))
    problems = [] if counted == task["count"] else [f"{counted} effects of {task['count']} messages"]
    return {"cpu_seconds": cpu, "wall_seconds": wall, "late": percentiles(reader.late), "outbox": outbox, "problems": problems}


def _outbox() -> dict[float, float]:
    """Messages of this process by how long they were in the outbox at most."""
    samples = (sample for metric in telemetry.OUTBOX_LAG.collect() for sample in metric.samples)
    return {float(sample.labels["le"]): sample.value for sample in samples if sample.name.endswith("_bucket")}


async def backlog(kernel: Settings, amqp: str, management: str, kind: str, name: str, count: int) -> None:
    source = channel(kind, name)
    bus = Brokers(KafkaBus(kernel.kafka_url, "bench"), RabbitBus(amqp, "bench", management=management))
    await bus.start()
    try:
        await declare(bus, [Reader(source, 100).service])
        for start in range(0, count, PUBLISHED_AT_ONCE):
            numbers = range(start, min(count, start + PUBLISHED_AT_ONCE))
            await bus.publish([_outgoing(source, kind, number) for number in numbers])
    finally:
        await bus.close()


def _outgoing(source: Topic | Queue, kind: str, number: int) -> Outgoing:
    key = str(number % KEYS_IN_USE)
    return encode(message(kind, number), source, key=key, source="bench", time=utc_now(), traceparent=None, actor=None)


async def rounds(kafka: str, amqp: str, management: str, count: int, rate: float, seconds: float, repeat: int) -> list[dict[str, Any]]:
    found = []
    kernel = Settings(kafka_url=kafka, rabbitmq_url=amqp)
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        async with embedded.start(Path(folder), secret="bench-secret-bench-secret-bench-0", announce=lambda _: None) as started:
            servers = Backends(started.database_url, started.redis_url, "bench-secret-bench-secret-bench-0")
            for kind, batch in [("topic", 100), ("queue", 100), ("topic", 1), ("queue", 1)] * repeat:
                name = str(new_id())[-12:]
                await migrate([Reader(channel(kind, name), batch).service], servers)
                messages = count if batch > 1 else count // 10
                await backlog(kernel, amqp, management, kind, name, messages)
                task = {
                    "kind": kind,
                    "name": name,
                    "batch": batch,
                    "count": messages,
                    "rate": rate,
                    "seconds": seconds,
                    "kafka": kafka,
                    "amqp": amqp,
                }
                task |= {"management": management, "database": servers.database_url, "redis": servers.redis_url, "secret": servers.secret}
                spins = [spin()]
                answer = await _in_a_process(task)
                spins.append(spin())
                found.append({"kind": kind, "batch": batch, "messages": messages, "rate": rate, "spin_seconds": spins, **answer})
                print(row(found[-1]), flush=True)
                await _forget(servers)
    return found


async def _in_a_process(task: dict[str, Any]) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.consumers", "--child", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await child.communicate(json.dumps(task).encode())  # on stdin: the URLs have passwords
    if child.returncode:
        raise SystemExit("the measured process failed, see above")
    answer: dict[str, Any] = json.loads(output)
    return answer


async def _forget(servers: Backends) -> None:
    import asyncpg

    connection = await asyncpg.connect(servers.database("bench"))
    await connection.execute("TRUNCATE tally, inbox, outbox")
    await connection.close()


def row(found: dict[str, Any]) -> str:
    half = found["messages"] / found["cpu_seconds"] / 2
    late = found["late"]
    times, outbox = (
        " / ".join(f"{each[name] * 1000:.0f}" for name in ("p50", "p95", "p99") if name in each) for each in (late, found["outbox"])
    )
    spins = " / ".join(f"{each:.3f}" for each in found["spin_seconds"])
    broker = "Kafka" if found["kind"] == "topic" else "RabbitMQ"
    books = "; ".join(found["problems"]) or "right"
    return f"| {broker}, up to {found['batch']} a transaction | {half:,.0f} | {FASTSTREAM[found['kind']]} | {found['cpu_seconds'] / found['messages'] * 1000:.3f} | {found['messages'] / found['wall_seconds']:,.0f} | {outbox} | {times} (n {late['n']:,}) | {spins} | {books} |"


HEAD = (
    "| consumer with inbox, effect, commit | messages a second of half a core | FastStream's figure | CPU ms a message | messages a second, as it ran | "
    "at a fixed rate, ms, p50 / p95 / p99: commit to taken by the broker (outbox), at most | commit to handler | spin before / after, s | books |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def report(found: Sequence[dict[str, Any]], load: Sequence[float]) -> str:
    return "\n".join(
        [
            f"# Consumers on real brokers, {datetime.now(UTC).isoformat(timespec='seconds')}",
            "",
            f"{os.cpu_count()} cores shared with the brokers, Postgres and whatever else ran: load average {load[0]:.1f} before, {os.getloadavg()[0]:.1f} after. Python "
            f"{platform.python_version()}, {found[0]['rate']:g} messages a second in the second part (open loop), one run each.",
            "",
            HEAD,
            *map(row, found),
            "",
            __doc__.split("\n", 2)[2].strip(),
            "FastStream's figures are its own (0.6.0rc0, half a CPU, 256 MB): from another machine, without an inbox, an effect or a database.",
            "",
        ]
    )


def main(
    kafka: Annotated[str, typer.Argument(help="Kafka, such as 127.0.0.1:9092.")] = "",
    amqp: Annotated[str, typer.Argument(help="RabbitMQ, such as amqp://user:password@127.0.0.1/.")] = "",
    management: Annotated[str, typer.Option(help="RabbitMQ's management API; by default beside it.")] = "",
    count: Annotated[int, typer.Option(min=100, help="Messages of the backlog; a tenth where each has its own transaction.")] = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages a second of the second part.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the second part.")] = 15,
    repeat: Annotated[int, typer.Option(min=1, help="Go through the rounds so many times, interleaved.")] = 1,
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
    child: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure what a message costs a consumer on real brokers, and how late it is. Exit status 1 when effects and messages are not equal in number."""
    if child:
        print(json.dumps(uvloop.run(measure(json.load(sys.stdin)))))
        return
    if not kafka or not amqp:
        raise typer.BadParameter("name Kafka and RabbitMQ; docs/brokers.md says how to start them")
    before = os.getloadavg()
    found = uvloop.run(rounds(kafka, amqp, management, count, rate, seconds, repeat))
    text = report(found, before)
    results.mkdir(parents=True, exist_ok=True)
    commit = (
        subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip() or "uncommitted"
    )
    path = results / f"{datetime.now(UTC):%Y-%m-%d}-{commit}-consumers"
    path.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(text)
    raise typer.Exit(1 if any(each["problems"] for each in found) else 0)


if __name__ == "__main__":
    typer.run(main)
