"""`python -m bench.consumers KAFKA AMQP`: what a message costs a consumer on real brokers, with its inbox, its effect
and its commit; and how late messages are.

A backlog is published first. Then a process of its own handles it, and its CPU seconds are counted from the first
message to the last: messages a second of half a
core are half of messages per CPU second, whatever else runs on the machine. Afterwards it sends messages through its
outbox at a fixed rate (open loop) and
takes them back; the time from the commit's clock to the handler is what a reader sees of outbox, broker and batches
together.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bench.ceilings import measure_spin
from bench.consumers_report import format_report, format_row
from bench.plain_consumers import measure_plain_consumer
from bench.rounds import compute_percentiles, estimate_percentiles, subtract_buckets
from caravan import embedded, telemetry
from caravan.bus.brokers import BrokerBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.kafka_servers import KafkaServers
from caravan.bus.rabbitmq import RabbitBus
from caravan.clock import new_id, utc_now
from caravan.consumers import Consumers
from caravan.database import Database, UnitOfWork
from caravan.messages import Command, Delivery, Event, Message, OutgoingMessage, Queue, Topic, encode_message
from caravan.runtime import Backends, Process, declare_channels, run_migrations
from caravan.service import DatabaseDeclaration, Service, ServiceContext
from caravan.settings import Settings
from caravan.telemetry import metrics
from services.identity.client import ACCEPT_TOKEN, GET_KEY_SET

SECRET = "bench-secret-bench-secret-bench-0"
KEYS_IN_USE = 1000
PUBLISHED_AT_ONCE = 500
DEADLINE_SECONDS = 600
COMMIT_SECONDS = 10
RESULTS = Path(__file__).parent / "results"
ROUNDS = (
    *((library, kind, 100) for kind in ("topic", "queue") for library in ("client", "faststream", "caravan")),
    ("caravan", "topic", 1),
    ("caravan", "queue", 1),
)
"""Library, kind of channel, and messages a transaction at most."""


class Counted(Event):
    number: int
    note: str


class Count(Command):
    number: int
    note: str


def make_channel(kind: str, name: str) -> Topic | Queue:
    if kind == "topic":
        return Topic(f"bench-{name}", "bench", (Counted,), "key", "bench", partitions=1)
    return Queue(f"bench.{name}", "bench", (Count,), "key", "bench")


def make_message(kind: str, number: int) -> Counted | Count:
    return (Counted if kind == "topic" else Count)(number=number, note="x" * 100)


class BenchConsumer:
    """A service with one consumer, which adds up what it sees per key."""

    def __init__(self, source: Topic | Queue, batch: int) -> None:
        self.message_count = 0
        self.started_at = self.cpu_at_start = 0.0
        self.latencies: list[float] = []
        consume = Consumers("bench") if batch > 1 else Consumers("bench", linger=0)

        @consume(source, batch=batch)
        async def count_messages(
            _: ServiceContext[Any, Any], uow: UnitOfWork, deliveries: list[Delivery[Message]]
        ) -> None:
            if not self.message_count:
                self.started_at, self.cpu_at_start = time.perf_counter(), time.process_time()
            await uow.execute(
                "INSERT INTO tally SELECT key, count(*) FROM unnest($1::text[]) AS key GROUP BY key ORDER BY key "
                "ON CONFLICT (key) DO UPDATE SET seen = tally.seen + excluded.seen",
                [delivery.key for delivery in deliveries],
            )
            now = utc_now()
            self.latencies += [(now - delivery.time).total_seconds() for delivery in deliveries]
            self.message_count += len(deliveries)

        databases = (DatabaseDeclaration("bench", Path(__file__).parent / "versions"),)
        self.service = Service("bench", databases=databases, consumers=consume, channels=(source,))


async def _wait_for_count(reader: BenchConsumer, count: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while reader.message_count < count:
            await asyncio.sleep(0.01)


async def _wait_for_commits(database: Database, count: int) -> int:
    """Effects, once they are as many as the messages, or after a while."""
    end = time.perf_counter() + COMMIT_SECONDS
    while True:
        counted = int(await database.fetchval("SELECT coalesce(sum(seen), 0) FROM tally"))
        if counted == count or time.perf_counter() > end:
            return counted
        await asyncio.sleep(0.02)


async def measure_consumer(task: dict[str, Any]) -> dict[str, Any]:
    """In the measured process."""
    telemetry.configure_logs("error", "text")
    source = make_channel(task["kind"], task["name"])
    reader = BenchConsumer(source, task["batch"])
    kernel = Settings(
        kafka_url=task["kafka"], rabbitmq_url=task["amqp"], rabbitmq_management_url=task["management"] or None
    )
    servers = Backends(task["database"], task["redis"], task["secret"])
    async with Process([reader.service], kernel, servers, GET_KEY_SET, ACCEPT_TOKEN, "http://bench.invalid") as process:
        database = process.contexts["bench"].database
        await _wait_for_count(reader, task["count"])
        counted = await _wait_for_commits(database, task["count"])
        cpu, wall = time.process_time() - reader.cpu_at_start, time.perf_counter() - reader.started_at
        reader.latencies.clear()
        lag_before = _collect_outbox_lag()
        started_at = time.perf_counter()
        for number in range(int(task["rate"] * task["seconds"])):
            await asyncio.sleep(max(0.0, started_at + number / task["rate"] - time.perf_counter()))
            async with database.unit_of_work() as uow:
                uow.emit(source, make_message(task["kind"], number), key=str(number % KEYS_IN_USE))
        await _wait_for_count(reader, task["count"] + int(task["rate"] * task["seconds"]))
        outbox = estimate_percentiles(subtract_buckets(lag_before, _collect_outbox_lag()))
    problems = [] if counted == task["count"] else [f"{counted} effects of {task['count']} messages"]
    return {
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "late": compute_percentiles(reader.latencies),
        "outbox": outbox,
        "problems": problems,
    }


def _collect_outbox_lag() -> dict[float, float]:
    """Messages of this process by how long they were in the outbox at most."""
    samples = (sample for metric in metrics.OUTBOX_LAG.collect() for sample in metric.samples)
    return {float(sample.labels["le"]): sample.value for sample in samples if sample.name.endswith("_bucket")}


async def publish_backlog(kernel: Settings, amqp: str, management: str, kind: str, name: str, count: int) -> None:
    source = make_channel(kind, name)
    bus = BrokerBus(
        KafkaBus(KafkaServers.from_settings(kernel), "bench"), RabbitBus(amqp, "bench", management=management)
    )
    await bus.start()
    try:
        await declare_channels(bus, [BenchConsumer(source, 100).service])
        for start in range(0, count, PUBLISHED_AT_ONCE):
            numbers = range(start, min(count, start + PUBLISHED_AT_ONCE))
            await bus.publish([_encode_numbered(source, kind, number) for number in numbers])
    finally:
        await bus.close()


def _encode_numbered(source: Topic | Queue, kind: str, number: int) -> OutgoingMessage:
    key = str(number % KEYS_IN_USE)
    return encode_message(
        make_message(kind, number), source, key=key, source="bench", time=utc_now(), traceparent=None, actor=None
    )


async def run_rounds(
    kafka: str, amqp: str, management: str, count: int, rate: float, seconds: float, repeat: int
) -> list[dict[str, Any]]:
    results = []
    kernel = Settings(kafka_url=kafka, rabbitmq_url=amqp)
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder:
        async with embedded.start(Path(folder), secret=SECRET, announce=lambda _: None) as started:
            servers = Backends(started.database_url, started.redis_url, SECRET)
            for library, kind, batch in ROUNDS * repeat:
                name = str(new_id())[-12:]
                await run_migrations([BenchConsumer(make_channel(kind, name), batch).service], servers)
                messages = count if batch > 1 else count // 10
                await publish_backlog(kernel, amqp, management, kind, name, messages)
                task = {
                    "library": library,
                    "source": make_channel(kind, name).name,
                    "kind": kind,
                    "name": name,
                    "batch": batch,
                    "count": messages,
                    "rate": rate,
                    "seconds": seconds,
                    "kafka": kafka,
                    "amqp": amqp,
                }
                task |= {
                    "management": management,
                    "database": servers.database_url,
                    "redis": servers.redis_url,
                    "secret": servers.secret,
                }
                spins = [measure_spin()]
                measured = await _run_child_process(task)
                spins.append(measure_spin())
                results.append(
                    {
                        "library": library,
                        "kind": kind,
                        "batch": batch,
                        "messages": messages,
                        "rate": rate,
                        "spin_seconds": spins,
                        **measured,
                    }
                )
                print(format_row(results[-1]), flush=True)
                await truncate_tables(servers)
    return results


async def _run_child_process(task: dict[str, Any]) -> dict[str, Any]:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bench.consumers",
        "--child",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    output, _ = await child.communicate(json.dumps(task).encode())  # on stdin: the URLs have passwords
    if child.returncode:
        raise SystemExit("the measured process failed, see above")
    answer: dict[str, Any] = json.loads(output)
    return answer


async def truncate_tables(servers: Backends) -> None:
    import asyncpg

    connection = await asyncpg.connect(servers.get_database_url("bench"))
    await connection.execute("TRUNCATE tally, inbox, outbox")
    await connection.close()


def main(
    kafka: Annotated[str, typer.Argument(help="Kafka, such as 127.0.0.1:9092.")] = "",
    amqp: Annotated[str, typer.Argument(help="RabbitMQ, such as amqp://user:password@127.0.0.1/.")] = "",
    management: Annotated[str, typer.Option(help="RabbitMQ's management API; by default beside it.")] = "",
    count: Annotated[
        int, typer.Option(min=100, help="Messages of the backlog; a tenth where each has its own transaction.")
    ] = 20_000,
    rate: Annotated[float, typer.Option(min=1, help="Messages a second of the second part.")] = 100,
    seconds: Annotated[float, typer.Option(min=1, help="Length of the second part.")] = 15,
    repeat: Annotated[int, typer.Option(min=1, help="Go through the rounds so many times, interleaved.")] = 1,
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
    child: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Measure what a message costs a consumer on real brokers, and how late it is. Exit status 1 when effects and
    messages are not equal in number.
    """
    if child:
        task = json.load(sys.stdin)
        measure = measure_consumer if task.get("library", "caravan") == "caravan" else measure_plain_consumer
        print(json.dumps(uvloop.run(measure(task))))
        return
    if not kafka or not amqp:
        raise typer.BadParameter("name Kafka and RabbitMQ; docs/how-to/brokers.md says how to start them")
    before = os.getloadavg()
    measurements = uvloop.run(run_rounds(kafka, amqp, management, count, rate, seconds, repeat))
    text = format_report(measurements, before, (__doc__ or "").split("\n", 2)[2].strip())
    results.mkdir(parents=True, exist_ok=True)
    commit = (
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip()
        or "uncommitted"
    )
    path = results / f"{datetime.now(UTC):%Y-%m-%d}-{commit}-consumers"
    path.with_suffix(".json").write_text(json.dumps(measurements, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(text)
    raise typer.Exit(1 if any(each["problems"] for each in measurements) else 0)


if __name__ == "__main__":
    typer.run(main)
