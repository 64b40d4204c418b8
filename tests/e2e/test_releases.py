"""The shop as a Helm release: a real day through the ingress, to an earlier version and back under load, gone and
installed again.
"""

import asyncio
import os
import sys
from pathlib import Path

import httpx2
import pytest

from tests.e2e.cluster import Cluster, is_ready
from tests.e2e.conftest import SIZE, needs_a_cluster, per_service
from tests.e2e.load import customers, orders_of
from tests.e2e.releases import Release, earlier, load, now
from tests.support.program import ROOT, Program, build_environment
from tests.support.shop import wait_until

pytestmark = needs_a_cluster
DAY = Path(os.environ.get("TEST_REPLAY_CSV", ROOT / "tests" / "cli" / "data" / "day.csv"))
REPLAY_SECONDS = 1200
MESSAGING = ("KafkaTopic", "RabbitMQQueue", "RabbitMQExchange", "RabbitMQBinding")


async def test_the_charts_own_test_places_an_order(cluster: Cluster) -> None:
    assert "Phase:          Succeeded" in await asyncio.to_thread(cluster.helm, "test", "shop", "--timeout", "4m")


async def test_a_day_replayed_through_the_ingress_has_no_difference(tmp_path: Path) -> None:
    """The ingress knows the shop by its host's name, which only this machine's proxy setting can give a meaning
    here.
    """
    replay = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli", "replay", str(DAY), "--url", f"http://{os.environ['E2E_HOST']}"),
        cwd=ROOT,
        env={
            **build_environment(tmp_path, CARAVAN_SECRET=os.environ["E2E_SECRET"]),
            "HTTP_PROXY": os.environ["E2E_URL"],
            "NO_PROXY": "",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        stdin=asyncio.subprocess.DEVNULL,
    )
    output, _ = await asyncio.wait_for(replay.communicate(), REPLAY_SECONDS)
    print(output.decode())
    assert replay.returncode == 0, output.decode()


@pytest.fixture
async def before(tmp_path: Path) -> Release:
    revision = os.environ.get("E2E_BEFORE", "HEAD~1")
    found = await asyncio.to_thread(earlier, revision, SIZE, tmp_path)
    if found is None:
        pytest.skip(f"no earlier version to go to: git has no {revision} here (E2E_BEFORE names another)")
    await asyncio.to_thread(found.build)
    await asyncio.to_thread(load, os.environ["E2E_KIND_CLUSTER"], set(found.images.values()))
    return found


@per_service
@pytest.mark.slow
async def test_to_an_earlier_version_and_back_under_load_and_nobody_notices(
    cluster: Cluster, shop: Program, before: Release
) -> None:
    rebuild = ("exec", "deployment/shop-orders", "--", "caravan", "projections", "rebuild", "order_summary")
    async with customers(shop) as load:
        await asyncio.to_thread(before.shop, cluster)
        assert await _images(cluster) == {before.images["caravan"]}
        assert "equal to the live one" in await asyncio.to_thread(cluster.kubectl, *rebuild)
        await asyncio.to_thread(now(SIZE).shop, cluster)
        assert await _images(cluster) == {now(SIZE).images["caravan"]}
        assert "equal to the live one" in await asyncio.to_thread(cluster.kubectl, *rebuild)
    assert load.failed == []


async def _images(cluster: Cluster) -> set[str]:
    pods = await cluster.list_pods("app.kubernetes.io/instance=shop", fields="status.phase=Running")
    return {
        container.image or ""
        for pod in pods
        if pod.spec is not None and pod.metadata is not None and pod.metadata.deletion_timestamp is None
        for container in pod.spec.containers
    }


@per_service
@pytest.mark.slow
async def test_an_uninstall_leaves_topics_queues_and_data_and_the_next_install_adopts_them(
    cluster: Cluster, shop: Program
) -> None:
    who, sku = await shop.register_customer(), await shop.create_product(stock=3)
    order = (await shop.place_order(who, sku)).json()["id"]
    await shop.wait_for_status(who, order, "delivered", seconds=60)
    there = await asyncio.to_thread(_messaging, cluster)
    await asyncio.to_thread(cluster.helm, "uninstall", "shop", "--wait", "--timeout", "4m")
    await asyncio.to_thread(cluster.helm, "uninstall", "operator", "--wait", "--timeout", "4m")
    assert await asyncio.to_thread(_messaging, cluster) == there
    await asyncio.to_thread(now(SIZE).operator, cluster)
    await asyncio.to_thread(now(SIZE).shop, cluster)

    async def all_ready() -> bool:
        found = await cluster.list_custom_resources(MESSAGING)
        unready = [item["metadata"]["name"] for item in found if not is_ready(item)]
        assert len(found) > 100 and not unready, unready
        return True

    await wait_until(all_ready, seconds=120, every=2)
    assert await asyncio.to_thread(_messaging, cluster) == there
    await wait_until(lambda: _answers(shop), seconds=60, every=1)
    assert await orders_of(shop, who) == {order: "delivered"}
    await shop.wait_for_status(who, (await shop.place_order(who, sku)).json()["id"], "delivered", seconds=60)


def _messaging(cluster: Cluster) -> tuple[list[str], str]:
    """Each topic with its id, which a topic made anew doesn't share, and the bindings of all queues."""
    kafka = (
        "exec",
        "backends-kafka-0",
        "--",
        "/opt/kafka/bin/kafka-topics.sh",
        "--bootstrap-server",
        "127.0.0.1:9092",
        "--describe",
    )
    topics = [
        line.split("\tPartitionCount")[0] for line in cluster.kubectl(*kafka).splitlines() if line.startswith("Topic:")
    ]
    rabbit = ("list_bindings", "source_name", "destination_name", "routing_key")
    return sorted(topics), cluster.kubectl("exec", "backends-rabbitmq-0", "--", "rabbitmqctl", "--quiet", *rabbit)


async def _answers(shop: Program) -> bool:
    try:
        return (await shop.client.get("/v1/products", params={"limit": 1})).status_code == 200
    except httpx2.HTTPError:
        return False
