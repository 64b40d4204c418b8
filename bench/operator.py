"""`python -m bench.operator`: the operator against a real API server and a real Kafka, next to a naive kopf operator in
the same run.

Needs KUBECONFIG with the CRDs installed (`caravan-operator crds | kubectl apply --server-side -f -`) and a Kafka. It
makes namespaces and topics, and deletes them.
"""

import asyncio
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import httpx2
import psutil
import typer
from caravan_operator.backends.kafka import Kafka
from caravan_operator.backends.kafka_client import KafkaLogin
from caravan_operator.backends.kubernetes import Kubernetes, build_configuration, log_in
from caravan_operator.reconcile.kafka_topic import DeleteTopic
from kubernetes.aio.client import ApiClient, CustomObjectsApi
from kubernetes.aio.watch import Watch
from prometheus_client.parser import text_string_to_metric_families

RESULTS = Path(__file__).parent / "results"
TOPICS = "/apis/messaging.caravan.dev/v1alpha1/namespaces/{}/kafkatopics"
SWEEP = 30
LIMITS = {
    "ready_p95_seconds": 30,
    "pass_kubernetes_writes": 0,
    "new_during_full_pass_p95_seconds": 5,
    "restart_seconds": 30,
    "restart_rss_mib": 200,
}


def main(
    kafka: Annotated[str, typer.Option(help="Bootstrap server, reachable under its advertised address.")],
    resources: Annotated[
        int, typer.Option(min=10, help="KafkaTopics that are created at once, for both operators.")
    ] = 1000,
    restart: Annotated[
        int, typer.Option(min=0, help="Resources that are there at the restart; 0 leaves that out.")
    ] = 10_000,
    naive: Annotated[bool, typer.Option("--naive/--no-naive", help="Also measure the naive operator.")] = True,
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
) -> None:
    """Measure create to Ready, a pass that changes nothing, a restart, and a new resource while a full pass runs."""
    result = asyncio.run(run(kafka, resources, restart, naive))
    results.mkdir(exist_ok=True)
    path = results / f"{result['date']}-operator-{resources}-{restart}.json"
    path.write_text(json.dumps(result, indent=2) + "\n")
    typer.echo(json.dumps(result, indent=2))
    typer.echo(f"wrote {path}", err=True)


async def run(kafka: str, resources: int, restart: int, naive: bool) -> dict[str, Any]:
    kubernetes = Kubernetes(connections=8)
    result: dict[str, Any] = {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "load_average_before": os.getloadavg()[0],
        "bars": LIMITS,
    }
    try:
        result["caravan"] = await _measure_caravan(kubernetes, kafka, resources, restart)
        if naive:
            result["naive"] = await _measure_naive(kubernetes, kafka, resources)
    finally:
        await kubernetes.close()
    return result | {"load_average_after": os.getloadavg()[0]}


async def _measure_caravan(kubernetes: Kubernetes, kafka: str, resources: int, restart: int) -> dict[str, Any]:
    async with _create_namespace(kubernetes, kafka) as space:
        await space.create_connection(kafka)
        arguments = [
            sys.executable,
            "-c",
            "from caravan_operator.main import main; main()",
            "run",
            "-n",
            space.name,
            "--own-namespace",
            space.name,
        ]
        arguments += [
            "--sweep",
            str(SWEEP),
            "--log-level",
            "warning",
            "--lease",
            "30",
            "--snapshots-port",
            "0",
            "--port",
        ]
        result: dict[str, Any] = {"resources": resources}
        async with _run_process([*arguments, str(port := _find_free_port())]) as process:
            await _wait_for_answer(f"http://127.0.0.1:{port}/readyz")
            result |= await _measure_creation(space, resources)
            result |= await _measure_idle_pass(port, resources)
            result["rss_mib"] = _read_rss(process)
        if restart:
            await _create_topics(space, resources, restart)
            async with _run_process([*arguments, str(port := _find_free_port())]) as process:
                await _wait_for_passes(process, port, restart, 1800)  # brings the added ones to Ready
            result |= {"restart_resources": restart} | await _measure_restart(
                space, [*arguments, str(port := _find_free_port())], port, restart
            )
        return result


async def _measure_restart(space: "TopicNamespace", arguments: list[str], port: int, restart: int) -> dict[str, Any]:
    """From the start of the process until everything was compared with the broker once; meanwhile some new
    resources.
    """
    started = time.monotonic()
    async with _run_process(arguments) as process:
        await _wait_for_answer(f"http://127.0.0.1:{port}/metrics")
        newcomers = asyncio.create_task(_measure_newcomers(space, port))
        await _wait_for_passes(process, port, restart, 1200)
        seconds = time.monotonic() - started
        times = await newcomers
        await asyncio.sleep(5)
        return {
            "restart_seconds": round(seconds, 1),
            "new_during_full_pass_p95_seconds": _compute_p95(times),
            "new_during_full_pass": len(times),
            "restart_rss_mib": _read_rss(process),
            "restart_peak_rss_mib": round(
                int(Path(f"/proc/{process.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024, 1
            ),
        }


async def _measure_naive(kubernetes: Kubernetes, kafka: str, resources: int) -> dict[str, Any]:
    async with _create_namespace(kubernetes, kafka) as space:
        port = _find_free_port()
        async with _run_process(
            [sys.executable, "-m", "bench.naive_operator", kafka, space.name, str(port)]
        ) as process:
            await _wait_for_answer(f"http://127.0.0.1:{port}/counts")
            result = {"resources": resources} | await _measure_creation(space, resources)
            async with httpx2.AsyncClient() as client:
                before = (await client.get(f"http://127.0.0.1:{port}/counts")).json()
                await asyncio.sleep(SWEEP)
                after = (await client.get(f"http://127.0.0.1:{port}/counts")).json()
            result |= {f"pass_{name}": after[name] - before[name] for name in ("broker_calls", "kubernetes_writes")}
            return result | {"rss_mib": _read_rss(process)}


@dataclass
class TopicNamespace:
    """A namespace with topics whose names start with it."""

    kubernetes: Kubernetes
    name: str
    names: list[str] = field(default_factory=list)

    @property
    def path(self) -> str:
        return TOPICS.format(self.name)

    async def create_connection(self, kafka: str) -> None:
        body = {
            "apiVersion": "messaging.caravan.dev/v1alpha1",
            "kind": "KafkaConnection",
            "metadata": {"name": "kafka"},
        }
        await self.kubernetes.request(
            "POST", self.path.replace("kafkatopics", "kafkaconnections"), body | {"spec": {"bootstrapServers": [kafka]}}
        )

    async def create_topic(self, number: int) -> str:
        name = f"{self.name}-{number}"
        spec = {
            "connectionRef": {"name": "kafka"},
            "partitions": 1,
            "config": {"retention": "24h"},
            "deletionPolicy": "Retain",
        }
        body = {
            "apiVersion": "messaging.caravan.dev/v1alpha1",
            "kind": "KafkaTopic",
            "metadata": {"name": name},
            "spec": spec,
        }
        await self.kubernetes.request("POST", self.path, body)
        self.names.append(name)
        return name


async def _measure_creation(space: TopicNamespace, count: int) -> dict[str, Any]:
    """Create all as fast as the API server takes them; per resource the time from its creation until a watch says that
    it is Ready.
    """
    created: dict[str, float] = {}
    ready: dict[str, float] = {}
    done = asyncio.Event()
    started = time.monotonic()
    numbers = iter(range(count))

    async def create_topics() -> None:
        for number in numbers:
            created[await space.create_topic(number)] = time.monotonic()

    async with asyncio.timeout(1800), asyncio.TaskGroup() as group:
        watching = group.create_task(_watch_ready(space, ready, done, count))
        await asyncio.gather(*(create_topics() for _ in range(8)))
        creating = time.monotonic() - started
        await done.wait()
        watching.cancel()
    times = [ready[name] - at for name, at in created.items()]
    return {
        "creating_seconds": round(creating, 1),
        "all_ready_seconds": round(time.monotonic() - started, 1),
        "ready_p50_seconds": round(statistics.median(times), 2),
        "ready_p95_seconds": _compute_p95(times),
    }


async def _create_topics(space: TopicNamespace, first: int, last: int) -> None:
    numbers = iter(range(first, last))

    async def create_next() -> None:
        for number in numbers:
            await space.create_topic(number)
            if number % 500 == 0:
                typer.echo(f"{number} of {last} resources created", err=True)

    await asyncio.gather(*(create_next() for _ in range(8)))


async def _watch_ready(space: TopicNamespace, ready: dict[str, float], done: asyncio.Event, count: int) -> None:
    configuration = build_configuration()
    await log_in(configuration)
    async with ApiClient(configuration) as api, Watch() as watch:
        listed = CustomObjectsApi(api).list_namespaced_custom_object
        async for event in watch.stream(listed, "messaging.caravan.dev", "v1alpha1", space.name, "kafkatopics"):
            topic = event["object"]
            conditions = topic.get("status", {}).get("conditions", ())
            if any(each["type"] == "Ready" and each["status"] == "True" for each in conditions):
                ready.setdefault(topic["metadata"]["name"], time.monotonic())
            if len(ready) >= count:
                done.set()


async def _measure_newcomers(space: TopicNamespace, port: int) -> list[float]:
    """Resources that are new while the full pass runs: from the creation to Ready."""
    await _wait_until(port, lambda values: _read_passes(values) > 0, 600)
    times = []
    for number in range(10):
        name = await space.create_topic(1_000_000 + number)
        started = time.monotonic()
        while True:
            status = (await space.kubernetes.get(f"{space.path}/{name}")).get("status", {})
            if any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", ())):
                break
            await asyncio.sleep(0.05)
        times.append(time.monotonic() - started)
    return times


async def _measure_idle_pass(port: int, resources: int) -> dict[str, Any]:
    """A whole sweep in which nothing differs: what it asks and writes."""
    await asyncio.sleep(2 * SWEEP)
    before = await _fetch_metrics(port)
    await _wait_until(port, lambda values: _read_passes(values) >= _read_passes(before) + resources, 10 * SWEEP)
    after = await _fetch_metrics(port)
    passes = (_read_passes(after) - _read_passes(before)) / resources
    writes = sum(value - before.get(name, 0) for name, value in after.items() if name.startswith("writes:"))
    calls = sum(value - before.get(name, 0) for name, value in after.items() if name.startswith("broker:"))
    return {"pass_kubernetes_writes": writes, "pass_broker_calls": round(calls / passes, 1)}


async def _fetch_metrics(port: int) -> dict[str, float]:
    async with httpx2.AsyncClient(timeout=30) as client:
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if (
                sample.name == "caravan_operator_reconcile_total"
                and sample.labels["kind"] == "KafkaTopic"
                and sample.labels["result"] == "success"
            ):
                values["passes"] = sample.value
            elif sample.name == "caravan_operator_external_call_seconds_count":
                values[f"broker:{sample.labels['operation']}"] = sample.value
            elif (
                sample.name == "caravan_operator_kubernetes_requests_total"
                and sample.labels["verb"] != "GET"
                and sample.labels["resource"] != "leases"
            ):
                values[f"writes:{sample.labels}"] = sample.value
    return values


def _read_passes(values: dict[str, float]) -> float:
    return values.get("passes", 0)


async def _wait_for_passes(process: asyncio.subprocess.Process, port: int, count: int, seconds: float) -> None:
    def has_passed(values: dict[str, float]) -> bool:
        return _read_passes(values) >= count

    waiting, ended = asyncio.create_task(_wait_until(port, has_passed, seconds)), asyncio.create_task(process.wait())
    await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
    for task in (waiting, ended):
        task.cancel()
    if not waiting.done():
        raise SystemExit(f"the operator has ended, with exit code {process.returncode}: its last lines say why")
    await waiting


async def _wait_until(port: int, condition: Any, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while True:
            try:
                if condition(await _fetch_metrics(port)):
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.5)


async def _wait_for_answer(url: str) -> None:
    async with asyncio.timeout(60), httpx2.AsyncClient() as client:
        while True:
            try:
                if (await client.get(url)).text != "standby":
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)


@asynccontextmanager
async def _create_namespace(kubernetes: Kubernetes, kafka: str) -> AsyncIterator[TopicNamespace]:
    space = TopicNamespace(kubernetes, f"bench-{uuid4().hex[:6]}")
    await kubernetes.request("POST", "/api/v1/namespaces", {"metadata": {"name": space.name}})
    try:
        yield space
    finally:
        await kubernetes.request("DELETE", space.path, retry_seconds=300)
        await kubernetes.request("DELETE", f"/api/v1/namespaces/{space.name}")
        admin = Kafka(KafkaLogin({"bootstrap.servers": kafka}, ()), {}, lambda: None)
        await admin.apply_actions(
            [(DeleteTopic(name),) for name in await admin.list_topics() if name.startswith(space.name)]
        )
        await admin.close()


@asynccontextmanager
async def _run_process(arguments: list[str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        try:
            async with asyncio.timeout(30):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def _read_rss(process: asyncio.subprocess.Process) -> float:
    return round(psutil.Process(process.pid).memory_info().rss / 2**20, 1)


def _compute_p95(times: list[float]) -> float:
    return round(sorted(times)[max(0, int(len(times) * 0.95) - 1)], 2)


def _find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    typer.run(main)
