"""What only a cluster shows. `make e2e` gives it one; without it these tests are skipped."""

import asyncio
import os
import ssl
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from caravan_operator.resources import KINDS
from kubernetes.aio import client

from services.registry import SERVICES
from tests.e2e.cluster import Cluster, Failed, is_ready
from tests.e2e.conftest import SIZE, needs_a_cluster, per_service
from tests.e2e.load import customers
from tests.support.program import Program
from tests.support.shop import wait_until

pytestmark = needs_a_cluster
ROLL_SECONDS = 400
BINDINGS = ("list_bindings", "source_name", "destination_name", "routing_key")


async def test_every_pod_was_admitted_under_the_restricted_profile(cluster: Cluster) -> None:
    metadata = (await cluster.read_namespace()).metadata
    assert metadata is not None and metadata.labels is not None
    assert metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = await cluster.list_pods(fields="status.phase=Running")
    assert len(pods) >= (len(SERVICES) if SIZE == "kind" else 1)


async def test_the_ingress_speaks_tls_with_the_certificate_of_its_host(cluster: Cluster) -> None:
    host, port = os.environ["E2E_HOST"], urlsplit(os.environ["E2E_TLS"]).port
    trusted = ssl.create_default_context(cadata=await cluster.read_secret("shop-tls", "tls.crt"))
    reader, writer = await asyncio.open_connection(
        urlsplit(os.environ["E2E_TLS"]).hostname, port, ssl=trusted, server_hostname=host
    )
    writer.write(f"GET /v1/products?limit=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
    assert b'"items"' in answer


@per_service
async def test_every_custom_resource_is_ready(cluster: Cluster) -> None:
    async def are_ready() -> bool:
        found = await cluster.list_custom_resources(KINDS)
        unready = [f"{item['kind']} {item['metadata']['name']}" for item in found if not is_ready(item)]
        assert len(found) > 100 and not unready, unready
        return True

    await wait_until(are_ready, seconds=90, every=2)


@per_service
async def test_a_queue_that_was_deleted_is_back_with_its_bindings_and_the_order_placed_meanwhile_ends(
    cluster: Cluster, shop: Program
) -> None:
    def rabbit(*arguments: str) -> set[str]:
        return set(
            cluster.kubectl("exec", "backends-rabbitmq-0", "--", "rabbitmqctl", "--quiet", *arguments).splitlines()
        )

    bindings = await asyncio.to_thread(rabbit, *BINDINGS)
    who, sku = await shop.register_customer(), await shop.create_product(stock=5)
    for queue in ("inventory.orders", "inventory.reserve-stock"):
        await asyncio.to_thread(rabbit, "delete_queue", queue)
    placed = await shop.place_order(who, sku)
    assert placed.status_code == 202, placed.text

    async def back() -> bool:
        lacking = bindings - await asyncio.to_thread(rabbit, *BINDINGS)
        assert not lacking, lacking
        return True

    await wait_until(back, seconds=90, every=2)
    await shop.wait_for_status(who, placed.json()["id"], "delivered", seconds=90)


@per_service
async def test_the_shop_goes_on_without_the_operator(cluster: Cluster, shop: Program) -> None:
    await cluster.scale("operator", 0)
    try:
        who, sku = await shop.register_customer(), await shop.create_product(stock=1)
        await shop.wait_for_status(who, (await shop.place_order(who, sku)).json()["id"], "delivered", seconds=30)
    finally:
        await cluster.scale("operator", 1)


PROBE = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    address = socket.gethostbyname(host)
    try:
        socket.create_connection((address, int(port)), 3).close()
        print(target, "reached")
    except OSError:
        print(target, "denied")
"""


@per_service
@pytest.mark.parametrize("namespace", ["shop", "elsewhere"])
async def test_a_pod_that_no_policy_speaks_of_reaches_no_service_and_no_backend(
    cluster: Cluster, namespace: str
) -> None:
    """In the shop's namespace one without labels, in a namespace of its own one with all the labels of a service."""
    targets = [f"shop-{name}.shop:{port}" for name in SERVICES for port in (8080, 8081)]
    backends = ("postgres:5432", "kafka:9092", "rabbitmq:5672", "rabbitmq:15672", "cache:6379", "jobs:6379")
    targets += [
        "operator.shop:8081",
        "operator.shop:8080",
        *(f"backends-{backend.replace(':', '.shop:')}" for backend in backends),
    ]
    model = (await cluster.list_pods("app.kubernetes.io/component=catalog"))[0]
    assert model.spec is not None and model.metadata is not None
    container = model.spec.containers[0]
    stranger = client.V1Pod(
        metadata=client.V1ObjectMeta(
            name="stranger", labels={} if namespace == cluster.namespace else model.metadata.labels
        ),
        spec=client.V1PodSpec(
            restart_policy="Never",
            automount_service_account_token=False,
            security_context=model.spec.security_context,
            containers=[
                client.V1Container(
                    name="probe",
                    image=container.image,
                    security_context=container.security_context,
                    resources=container.resources,
                    command=["python", "-c", PROBE, *targets],
                )
            ],
        ),
    )
    await replace(cluster, namespace=namespace).apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )
    printed = await replace(cluster, namespace=namespace).run_pod("stranger", stranger)
    assert printed.splitlines() == [f"{target} denied" for target in targets]
    allowed = (
        "exec",
        "deployment/shop-orders",
        "--",
        "python",
        "-c",
        PROBE,
        "shop-catalog:8080",
        "shop-shipping:8080",
        "backends-kafka:9092",
    )
    # The same probe where the policies allow it, so that "denied" above means what it says.
    assert (await asyncio.to_thread(cluster.kubectl, *allowed)).splitlines() == [
        "shop-catalog:8080 reached",
        "shop-shipping:8080 denied",
        "backends-kafka:9092 reached",
    ]


@per_service
async def test_inventory_scales_to_three_and_back_under_load_and_nobody_notices(
    cluster: Cluster, shop: Program
) -> None:
    async with customers(shop) as load:
        for replicas in (3, 1):
            await cluster.scale("shop-inventory", replicas)
            await asyncio.to_thread(_rolled, cluster, "inventory")
    assert load.failed == []


@per_service
@pytest.mark.slow
async def test_every_deployment_is_rolled_under_load_and_nobody_notices(cluster: Cluster, shop: Program) -> None:
    async with customers(shop) as load:
        for name in SERVICES:
            await asyncio.to_thread(cluster.kubectl, "rollout", "restart", f"deployment/shop-{name}")
            await asyncio.to_thread(_rolled, cluster, name)
    assert load.failed == []


def _rolled(cluster: Cluster, name: str) -> None:
    cluster.kubectl(
        "rollout", "status", f"deployment/shop-{name}", f"--timeout={ROLL_SECONDS}s", seconds=ROLL_SECONDS + 10
    )


@per_service
async def test_a_node_that_is_drained_leaves_enough_of_a_service(cluster: Cluster, shop: Program) -> None:
    """On one node the first pod's successor finds no place, so the second one has to stay until there is one again."""
    metadata = (await cluster.read_node()).metadata
    assert metadata is not None and metadata.name is not None
    node = metadata.name
    catalog = "app.kubernetes.io/component=catalog"

    def drained() -> str:
        try:
            cluster.kubectl("drain", node, "--pod-selector", catalog, "--delete-emptydir-data", "--timeout", "15s")
        except Failed as refused:
            return str(refused)
        return "drained"

    async def count_ready() -> int:
        conditions = [
            condition
            for pod in await cluster.list_pods(catalog)
            for condition in (pod.status and pod.status.conditions) or ()
        ]
        return sum(condition.type == "Ready" and condition.status == "True" for condition in conditions)

    await cluster.scale("shop-catalog", 2)
    try:
        await asyncio.to_thread(_rolled, cluster, "catalog")
        async with customers(shop) as load:
            assert "disruption budget" in await asyncio.to_thread(drained)
            assert await count_ready() == 1
            await asyncio.to_thread(cluster.kubectl, "uncordon", node)
            await asyncio.to_thread(_rolled, cluster, "catalog")
        assert load.failed == []
    finally:
        await asyncio.to_thread(cluster.kubectl, "uncordon", node)
        await cluster.scale("shop-catalog", 1)
        await asyncio.to_thread(_rolled, cluster, "catalog")
