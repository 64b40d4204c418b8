"""Alerts whose faults take a cluster: fault on, each fires in its stated time and its receiver is notified; fault off,
it clears. `E2E_SIZE=observability E2E_TESTS=tests/e2e/test_cluster_alerts.py make e2e`, about 25 minutes.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import httpx2
import pytest

from caravan.concurrency import end_tasks
from observability.rehearsal.plan import CLUSTER, Rehearsal, list_rehearsals
from observability.rehearsal.rehearse import CLEAR_SECONDS, NOTIFY_SECONDS, describe, is_unexpected
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import SIZE
from tests.e2e.observability import NAMESPACE, RABBITMQ, Stores, remove_policies
from tests.support.program import Program
from tests.support.shop import wait_until

pytestmark = [
    pytest.mark.skipif(
        SIZE != "observability" or not os.environ.get("E2E_TESTS"),
        reason="E2E_SIZE=observability E2E_TESTS=tests/e2e/test_cluster_alerts.py make e2e",
    ),
    pytest.mark.timeout(2400),
]
HIGH, TOO_HIGH = 0.9, 1.5
"""Memory of RabbitMQ over the one at which it blocks publishers."""
UNROUTABLE = """
import asyncio, pathlib, aio_pika

async def publish():
    connection = await aio_pika.connect(pathlib.Path("/run/secrets/CARAVAN_RABBITMQ_URL").read_text())
    channel = await connection.channel(publisher_confirms=False)
    for _ in range(10):
        await channel.default_exchange.publish(aio_pika.Message(b"{}"), "nobody")
        await asyncio.sleep(1)
    await connection.close()

asyncio.run(publish())
"""
NOWHERE = {
    "apiVersion": "messaging.caravan.dev/v1alpha1",
    "kind": "RabbitMQConnection",
    "metadata": {"name": "nowhere"},
    "spec": {
        "allowInsecure": True,
        "managementUrl": "http://nowhere.invalid:15672",
        "secretRef": {"name": "caravan-rabbitmq"},
    },
}
Change = Callable[[Cluster], Awaitable[Any]]


@dataclass(frozen=True)
class ClusterFault:
    begin: Change
    end: Change


def scale_to(deployment: str, replicas: int) -> Change:
    async def scale(cluster: Cluster) -> None:
        await cluster.scale(deployment, replicas)

    return scale


def run_kubectl(*arguments: str, namespace: str = "") -> Change:
    async def run(cluster: Cluster) -> str:
        there = replace(cluster, namespace=namespace or cluster.namespace)
        return await asyncio.to_thread(there.kubectl, *arguments)

    return run


async def do_nothing(_: Cluster) -> None:
    """What was done by hand is set back by the operator, or over."""


async def add_connection(cluster: Cluster) -> None:
    await cluster.apply(NOWHERE)


async def measure_memory(cluster: Cluster) -> int:
    printed: str = await run_kubectl(*RABBITMQ, "eval", "vm_memory_monitor:get_process_memory().")(cluster)
    return int(printed.rsplit(maxsplit=1)[-1])


def limit_memory(share: float) -> Change:
    async def limit(cluster: Cluster) -> None:
        limit = round(await measure_memory(cluster) / share)
        await run_kubectl(*RABBITMQ, "set_vm_memory_high_watermark", "absolute", str(limit))(cluster)

    return limit


def scale_store(replicas: int) -> Change:
    return run_kubectl("scale", "statefulset/observability-jaeger", f"--replicas={replicas}", namespace=NAMESPACE)


LIFT_MEMORY_LIMIT = run_kubectl(*RABBITMQ, "set_vm_memory_high_watermark", "0.6")
FAULTS = {
    "a service has no pod": ClusterFault(scale_to("shop-recommendations", 0), scale_to("shop-recommendations", 1)),
    "a message that nobody reads": ClusterFault(
        run_kubectl("exec", "deployment/shop-notifications", "--", "python", "-c", UNROUTABLE), do_nothing
    ),
    "policies are removed by hand": ClusterFault(remove_policies, do_nothing),
    "the store of traces is gone": ClusterFault(scale_store(0), scale_store(1)),
    "a connection that nobody answers": ClusterFault(
        add_connection, run_kubectl("delete", "rabbitmqconnection", "nowhere", "--ignore-not-found", "--wait=false")
    ),
    "RabbitMQ uses nearly all its memory": ClusterFault(limit_memory(HIGH), LIFT_MEMORY_LIMIT),
    "RabbitMQ has too little memory": ClusterFault(limit_memory(TOO_HIGH), LIFT_MEMORY_LIMIT),
    "the operator has no pod": ClusterFault(scale_to("operator", 0), scale_to("operator", 1)),
}
"""By the name in rehearsals.yaml."""


@pytest.fixture
def stores() -> Stores:
    return Stores({part: os.environ[f"E2E_{part.upper()}"] for part in ("prometheus", "alertmanager")})


@pytest.fixture
async def light_load(shop: Program) -> AsyncIterator[None]:
    """An order a second: where nothing happens, nothing fails."""
    sku = await shop.create_product(stock=100_000)

    async def keep_ordering() -> None:
        while True:
            with suppress(httpx2.HTTPError, AssertionError):
                who = await shop.register_customer()  # a token ends after 15 minutes
                for _ in range(60):
                    await shop.place_order(who, sku)
                    await asyncio.sleep(1)

    ordering = asyncio.create_task(keep_ordering())
    yield
    await end_tasks([ordering])


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    began_at = time.monotonic()
    yield lambda: time.monotonic() - began_at


async def rehearse(cluster: Cluster, stores: Stores, rehearsal: Rehearsal, all_rehearsals: Sequence[Rehearsal]) -> str:
    fault = FAULTS[rehearsal.fault.removeprefix(CLUSTER)]

    async def is_firing() -> bool:
        return any(rehearsal.alert == labels["alertname"] for labels in await stores.list_firing())

    async def is_notified() -> bool:
        receiver = replace(cluster, namespace=NAMESPACE)
        return f" {rehearsal.alert} firing" in await asyncio.to_thread(receiver.kubectl, "logs", "deployment/receiver")

    async def is_clear() -> bool:
        return not await is_firing()

    try:
        await fault.begin(cluster)
        with timed() as seconds:
            await wait_until(is_firing, seconds=rehearsal.within + NOTIFY_SECONDS, every=2)
            fired = seconds()
            await wait_until(is_notified, seconds=2 * NOTIFY_SECONDS, every=2)
            notified = seconds()
        others = [labels for labels in await stores.list_notified() if is_unexpected(labels, all_rehearsals)]
    finally:
        await fault.end(cluster)
    with timed() as seconds:
        await wait_until(is_clear, seconds=CLEAR_SECONDS, every=3)
        cleared = seconds()
    line = (
        f"{rehearsal.alert}: fires after {fired:.0f} s, notified after {notified:.0f} s, cleared after {cleared:.0f} s"
    )
    print(line)
    assert fired <= rehearsal.within, line
    assert not others, [describe(labels) for labels in others]
    return line


@pytest.mark.usefixtures("light_load")
async def test_a_fault_raises_its_alert_alone_and_its_end_clears_it(cluster: Cluster, stores: Stores) -> None:
    """Those of a round at the same time."""
    every = list_rehearsals(on_cluster=True)
    for number in sorted({each.round for each in every}):
        await rehearse_round(cluster, stores, [each for each in every if each.round == number])


async def rehearse_round(cluster: Cluster, stores: Stores, rehearsals: Sequence[Rehearsal]) -> None:

    async def is_quiet() -> bool:
        firing = [describe(labels) for labels in await stores.list_firing() if is_unexpected(labels, ())]
        assert not firing, firing
        return True

    await wait_until(is_quiet, seconds=600, every=5)
    done = [rehearse(cluster, stores, rehearsal, rehearsals) for rehearsal in rehearsals]
    failures = [each for each in await asyncio.gather(*done, return_exceptions=True) if isinstance(each, Exception)]
    assert not failures, failures
