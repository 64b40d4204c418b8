"""Metrics, traces and logs of the shop on a cluster: `E2E_SIZE=observability make e2e`. What has no image here is left
out by name, and so are the tests that ask it.
"""

import asyncio
import os
import time
from dataclasses import replace

import pytest
from kubernetes.aio import client

from observability.dashboards.check import Outcome, check_boards, render_outcomes
from observability.dashboards.declared import load_metrics
from observability.dashboards.library import load_boards
from observability.dashboards.sources import Sources
from services.registry import SERVICES
from tests.charts.conftest import ROOT
from tests.e2e.cluster import Cluster
from tests.e2e.conftest import SIZE
from tests.e2e.observability import NAMESPACE, PORTS, Stores, remove_policies
from tests.e2e.test_on_a_cluster import PROBE
from tests.support.program import Program
from tests.support.shop import wait_until

pytestmark = pytest.mark.skipif(SIZE != "observability", reason="E2E_SIZE=observability make e2e")
LEFT_OUT = os.environ.get("E2E_LEFT_OUT", "").split()
ORDERS = 10
SCRAPE_SECONDS = 5
"""As `observability.install` sets it."""


def needs(*parts: str) -> pytest.MarkDecorator:
    lacking = [part for part in parts if part in LEFT_OUT]
    return pytest.mark.skipif(bool(lacking), reason=f"left out, no image: {', '.join(lacking)}")


@pytest.fixture
def stores() -> Stores:
    return Stores({part: os.environ[f"E2E_{part.upper()}"] for part in PORTS if f"E2E_{part.upper()}" in os.environ})


@pytest.fixture(scope="module")
async def orders(shop: Program) -> list[str]:
    """Orders that were delivered. One more is declined, and one is refused at once or rejected for want of stock."""
    who, sku = await shop.register_customer(), await shop.create_product(stock=ORDERS + 1)
    placed = [await shop.place_order(who, sku) for _ in range(ORDERS)]
    declined = await shop.place_order(who, sku, token="tok_declined")
    for answer in (*placed, declined):
        assert answer.status_code == 202, answer.text
    assert (await shop.place_order(who, sku, quantity=ORDERS + 2)).status_code in (202, 409)
    for _ in range(5):  # the first is computed, the others come from the cache
        assert (await shop.client.get("/v1/products")).status_code == 200
    for answer in placed:
        await shop.wait_for_status(who, answer.json()["id"], "delivered", seconds=120)
    return [answer.json()["id"] for answer in placed]


async def test_every_target_answers_with_its_metrics(stores: Stores) -> None:
    expected = {
        *SERVICES,
        "operator",
        "rabbitmq",
        "rabbitmq-queues",
        *PORTS,
        "collector",
        "spans",
        "kubelet",
        "cadvisor",
    }
    expected -= set(LEFT_OUT) | ({"spans"} if "collector" in LEFT_OUT else set())

    async def are_up() -> bool:
        up = {labels["job"]: value for labels, value in await stores.measure("min by (job) (up)")}
        targets = [
            f"{one['labels']['job']}: {one['lastError']}" for one in await stores.list_targets() if one["lastError"]
        ]
        assert up == dict.fromkeys(expected, 1.0), targets or sorted(expected ^ up.keys())
        return True

    await wait_until(are_up, seconds=120, every=3)
    clashing = await stores.measure('count by (job) ({__name__=~".+", exported_service!=""})')
    assert clashing == [], "a target's label took the place of one of the metrics' own"


async def test_every_service_is_seen_by_every_signal(stores: Stores, orders: list[str]) -> None:
    """The matrix service × signal; a signal whose store is left out is a dash."""
    matrix: dict[str, dict[str, bool]] = {}

    async def are_all_there() -> bool:
        found = {"metrics": await _count_by_service(stores)}
        if not {"collector", "loki"} & set(LEFT_OUT):
            found["logs"] = await _log_services(stores)
        if not {"collector", "jaeger"} & set(LEFT_OUT):
            found["traces"] = {name.removeprefix("caravan-") for name in await stores.list_traced_services()}
        matrix.update({name: {signal: name in services for signal, services in found.items()} for name in SERVICES})
        missing = [f"{name} {signal}" for name, row in matrix.items() for signal, seen in row.items() if not seen]
        assert not missing, missing
        return True

    assert orders
    try:
        await wait_until(are_all_there, seconds=150, every=5)
    finally:
        _print_matrix(matrix)


async def _count_by_service(stores: Stores) -> set[str]:
    names = '{__name__=~"http_server_request_duration_seconds_count|caravan_.+", service!=""}'
    return {labels["service"] for labels, _ in await stores.measure(f"count by (service) ({names})")}


async def _log_services(stores: Stores) -> set[str]:
    lines = await stores.read_logs('{service_namespace="caravan"}')
    return {labels["service_name"].removeprefix("caravan-") for labels, _ in lines}


def _print_matrix(matrix: dict[str, dict[str, bool]]) -> None:
    signals = ("metrics", "logs", "traces")
    print(f"\n{'service':16}" + "".join(f"{signal:>9}" for signal in signals))
    for name, row in matrix.items():
        print(
            f"{name:16}"
            + "".join(f"{ {True: 'yes', False: 'NO', None: '-'}[row.get(signal)]:>9}" for signal in signals)
        )


@needs("collector", "loki")
async def test_one_query_by_the_id_of_an_order_finds_lines_of_the_services_that_it_went_through(
    stores: Stores, orders: list[str]
) -> None:
    async def all_tell() -> set[str]:
        about = f'order_id="{orders[0]}" or order_ids=~".*{orders[0]}.*"'
        lines = await stores.read_logs(f'{{service_namespace="caravan"}} | {about}')
        reported = {labels["service_name"].removeprefix("caravan-") for labels, _ in lines}
        assert reported >= {"orders", "processing", "inventory", "payments", "shipping"}, reported
        return reported

    print(sorted(await wait_until(all_tell, seconds=90, every=3)))


@needs("collector", "loki")
async def test_labels_of_logs_are_few_and_ids_are_none_of_them(stores: Stores, orders: list[str]) -> None:
    lines = await stores.read_logs('{service_namespace="caravan"} | trace_id!=""')
    assert orders and lines
    names = {"service_name", "service_namespace", "k8s_namespace_name"}
    found = await stores.list_streams()
    assert all(set(labels) <= names for labels in found), found[:3]
    assert len(found) <= 3 * (len(SERVICES) + 1)


async def test_every_rule_is_loaded_and_can_be_evaluated(stores: Stores) -> None:
    async def are_healthy() -> int:
        rules = await stores.list_rules()
        unhealthy = [
            f"{rule['name']}: {rule.get('lastError', rule['health'])}" for rule in rules if rule["health"] != "ok"
        ]
        assert rules and not unhealthy, unhealthy
        return len([rule for rule in rules if rule["type"] == "alerting"])

    files = list((ROOT / "observability/prometheus/rules").glob("*.yaml"))
    if not files:
        pytest.skip("there are no rules yet")
    print(f"{await wait_until(are_healthy, seconds=120, every=3)} alerts of {len(files)} files")


async def test_every_panel_of_every_dashboard_has_data(cluster: Cluster, stores: Stores, orders: list[str]) -> None:
    """But those of exporters that are not there, each by its name."""
    metrics = load_metrics()
    await remove_policies(cluster)  # which the operator sets back: it has nothing else to do

    def check_panels() -> list[Outcome]:
        sources = Sources(
            {kind: stores.addresses[kind] for kind in ("prometheus", "loki", "jaeger") if stores.has(kind)},
            end=time.time(),
            seconds=900,
            scrape_seconds=SCRAPE_SECONDS,
            values={"order_id": orders[0]},
        )
        return check_boards(load_boards(), sources, metrics)

    async def all_have_data() -> list[Outcome]:
        outcomes = await asyncio.to_thread(check_panels)
        empty = [f"{each.board}: {each.panel}" for each in outcomes if not each.series and not each.needs]
        assert not empty, empty
        return outcomes

    print("\n" + render_outcomes(await wait_until(all_have_data, seconds=420, every=5)))


@needs("alertmanager")
async def test_the_heartbeat_arrives_at_its_receiver(stores: Stores, cluster: Cluster) -> None:
    receiver = replace(cluster, namespace=NAMESPACE)

    async def has_arrived() -> bool:
        assert "Heartbeat" in await stores.list_alerts()
        reported = await asyncio.to_thread(receiver.kubectl, "logs", "deployment/receiver")
        return "/heartbeat Heartbeat firing" in reported

    await wait_until(has_arrived, seconds=150, every=3)


@pytest.mark.parametrize("namespace", [NAMESPACE, "elsewhere"])
async def test_a_pod_that_no_policy_speaks_of_reaches_no_store_and_not_the_collector(
    cluster: Cluster, namespace: str
) -> None:
    """In the namespace of the stores one without labels, in one of its own one with all the labels of a service."""
    ports = {**PORTS, "collector": 4318}
    targets = [f"observability-{part}.{NAMESPACE}:{port}" for part, port in ports.items() if part not in LEFT_OUT]
    targets += ["backends-rabbitmq.shop:15692"]
    model = (await cluster.list_pods("app.kubernetes.io/component=catalog"))[0]
    assert model.spec is not None and model.metadata is not None
    container = model.spec.containers[0]
    stranger = client.V1Pod(
        metadata=client.V1ObjectMeta(name="stranger", labels={} if namespace == NAMESPACE else model.metadata.labels),
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
    there = replace(cluster, namespace=namespace)
    await there.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    printed = (await there.run_pod("stranger", stranger)).splitlines()
    # RabbitMQ's metrics are for whatever is in the namespace of the stores.
    denied = [target for target in targets if namespace != NAMESPACE or "rabbitmq" not in target]
    assert [line for line in printed if line.rpartition(" ")[0] in denied] == [f"{target} denied" for target in denied]
