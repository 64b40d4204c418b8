"""`python -m bench.readers COMMIT KAFKA AMQP`: what a message costs this tree's readers and those of another commit, in
turns on the same brokers and the same Postgres.

Each run is a process of one tree that handles a backlog of its own with inbox, effect and commit, as
`bench/consumers.py` has it; its CPU seconds are counted from the first message to the last. Runs come in pairs whose
order alternates, and what is compared is the ratio within a pair. Beside it each pair starts a process that only
imports the brokers' buses, for its CPU and memory.
"""

import asyncio
import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from bench.against import ROOT, checkout_commit
from bench.consumers import SECRET, BenchConsumer, make_channel, publish_backlog, truncate_tables
from caravan import embedded
from caravan.clock import new_id
from caravan.runtime import Backends, run_migrations
from caravan.settings import Settings

ROUNDS = (("topic", 100), ("queue", 100), ("topic", 1), ("queue", 1))
LIMITS = {"topic, up to 100": 1.08, "queue, up to 100": 1.10, "topic, up to 1": 1.25, "queue, up to 1": 1.25}
"""What a reader may cost at most, as a multiple of the other commit's."""
MEMORY_MIB_MAX = 12.0
CHILD = "from bench.consumers import main; main(child=True)"
"""Not `-m`: the classes of the messages would have another module, and so another name on the wire."""
IMPORT = (
    "import time; import caravan.runtime, caravan.bus.brokers;"
    "from caravan.bus.kafka import KafkaBus; from caravan.bus.rabbitmq import RabbitBus;"
    "seconds = time.process_time(); import psutil; print(seconds, psutil.Process().memory_info().rss / 2**20)"
)
"""Not `ru_maxrss`, which begins with what the process had that started this one."""


@contextmanager
def _start_servers() -> Iterator[Backends]:
    with tempfile.TemporaryDirectory(prefix="caravan-bench-") as folder, asyncio.Runner() as runner:
        started = embedded.start(Path(folder), secret=SECRET, announce=lambda _: None)
        servers = runner.run(started.__aenter__())
        try:
            yield Backends(servers.database_url, servers.redis_url, SECRET)
        finally:
            runner.run(started.__aexit__(None, None, None))


async def _publish_backlog(servers: Backends, kernel: Settings, task: dict[str, Any]) -> None:
    await run_migrations([BenchConsumer(make_channel(task["kind"], task["name"]), task["batch"]).service], servers)
    await truncate_tables(servers)
    await publish_backlog(kernel, task["amqp"], task["management"], task["kind"], task["name"], task["count"])


def measure_reader(tree: Path, servers: Backends, task: dict[str, Any]) -> float:
    """CPU milliseconds of a message."""
    task = {**task, "name": str(new_id())[-12:]}
    uvloop.run(_publish_backlog(servers, Settings(kafka_url=task["kafka"], rabbitmq_url=task["amqp"]), task))
    measured = json.loads(_run_python(tree, ["-c", CHILD], json.dumps(task)))
    if measured["problems"]:
        raise SystemExit(f"{tree}: {measured['problems']}")
    return float(measured["cpu_seconds"]) / float(task["count"]) * 1000


def measure_import(tree: Path) -> tuple[float, float]:
    """CPU seconds and MiB of a process that has imported the buses; the first one compiles."""
    _run_python(tree, ["-c", IMPORT], "")
    seconds, mebibytes = _run_python(tree, ["-c", IMPORT], "").split()
    return float(seconds), float(mebibytes)


def _run_python(tree: Path, arguments: list[str], text: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [str(tree / ".venv/bin/python"), *arguments]
    completed = subprocess.run(
        command, cwd=tree, input=text, env=environment, capture_output=True, text=True, check=False
    )
    if completed.returncode:
        raise SystemExit(f"the process of {tree} failed:\n{completed.stderr[-3000:]}")
    return completed.stdout


def format_row(label: str, pairs: list[tuple[float, float]], limit: float) -> str:
    ratio = statistics.median(ours / theirs for theirs, ours in pairs)
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratios = " ".join(f"{mine / other:.2f}" for other, mine in pairs)
    return f"| {label} | {theirs:.4f} | {ours:.4f} | {ratios} | {ratio:.3f} | {limit} |"


def main(
    commit: Annotated[str, typer.Argument(help="The commit to compare with.")],
    kafka: Annotated[str, typer.Argument(help="Kafka, such as 127.0.0.1:9092.")],
    amqp: Annotated[str, typer.Argument(help="RabbitMQ, such as amqp://user:password@127.0.0.1/.")],
    management: Annotated[str, typer.Option(help="RabbitMQ's management API; by default beside it.")] = "",
    count: Annotated[int, typer.Option(min=100, help="Messages; a tenth where each comes alone.")] = 20_000,
    pairs: Annotated[int, typer.Option(min=1)] = 8,
    kinds: Annotated[str, typer.Option(help="Of topic, queue.")] = "topic,queue",
) -> None:
    """Exit status 1 when a message or a process costs more than it may."""
    other = checkout_commit(commit)
    costs: dict[str, list[tuple[float, float]]] = {}
    imports: list[tuple[tuple[float, float], tuple[float, float]]] = []
    brokers = {"kafka": kafka, "amqp": amqp, "management": management, "rate": 1, "seconds": 0}
    with _start_servers() as servers:
        backends = {"database": servers.database_url, "redis": servers.redis_url, "secret": servers.secret}
        for number in range(pairs):
            trees = (other, ROOT) if number % 2 else (ROOT, other)
            for kind, batch in [each for each in ROUNDS if each[0] in kinds]:
                messages = count if batch > 1 else count // 10
                task = {"kind": kind, "batch": batch, "count": messages, **brokers, **backends}
                measured = {tree: measure_reader(tree, servers, task) for tree in trees}
                label = f"{kind}, up to {batch}"
                costs.setdefault(label, []).append((measured[other], measured[ROOT]))
                print(f"pair {number + 1}: {label}: {measured[other]:.4f} → {measured[ROOT]:.4f} ms", flush=True)
            started = {tree: measure_import(tree) for tree in trees}
            imports.append((started[other], started[ROOT]))
    seconds, memory = (statistics.median(ours[index] - theirs[index] for theirs, ours in imports) for index in (0, 1))
    print(
        f"\n{os.cpu_count()} cores, load average {os.getloadavg()[1]:.1f}, against {commit}: CPU ms a message, medians "
        f"of {pairs} pairs\n\n| batch of a | other | this | ratio of each pair | median | at most |\n"
        "|---|---|---|---|---|---|"
    )
    for label, pair in costs.items():
        print(format_row(label, pair, LIMITS[label]))
    print(f"\nA process that imports the buses: {seconds:+.2f} s of CPU, {memory:+.1f} MiB (at most {MEMORY_MIB_MAX}).")
    is_worse = [
        label for label, pair in costs.items() if statistics.median(mine / one for one, mine in pair) > LIMITS[label]
    ]
    if is_worse or memory > MEMORY_MIB_MAX:
        print("costs too much:", ", ".join([*is_worse, *(["memory"] if memory > MEMORY_MIB_MAX else [])]))
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
