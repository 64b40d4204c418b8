"""From a ServiceRoute to the gateway's door: a real API server, the operator as a process, a real gateway with real
replicas.

Services have no selector, so that the tests say themselves which endpoints there are.
"""

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from caravan.runtime import Backends
from tests.operator.cluster.apiserver import MERGE_PATCH, Namespace, OperatorProcess
from tests.services.gateway.stand_ins import Pets, listening
from tests.support.shop import Shop, run_services, wait_until

WITHIN = 2.0
"""Seconds from a change in the API server until requests follow it."""
READY = {"ready": True, "serving": True, "terminating": False}
DRAINING = {"ready": False, "serving": True, "terminating": True}


def get_own_address() -> str:
    """One that is not the loopback's: the API server takes no such endpoint."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


@dataclass
class World:
    namespace: Namespace
    operator: OperatorProcess
    shop: Shop
    client: httpx2.AsyncClient
    backends: Backends
    versions: Counter[str] = field(default_factory=Counter)

    async def create_service(self, name: str) -> None:
        spec = {"ports": [{"name": "http", "port": 80}]}
        await self.namespace.kubernetes.request(
            "POST", f"/api/v1/namespaces/{self.namespace.name}/services", {"metadata": {"name": name}, "spec": spec}
        )

    async def set_endpoints(self, name: str, *endpoints: tuple[str, dict[str, bool]], part: str = "a") -> None:
        """All of a part; each on a port of its own, so each part has one port."""
        base = f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace.name}/endpointslices"
        by_port = {urlsplit(url).port: (urlsplit(url).hostname, states) for url, states in endpoints}
        desired = {f"{name}-{port}": self._build_slice(name, port, *address) for port, address in by_port.items()}
        listed = (await self.namespace.kubernetes.get(f"{base}?labelSelector=kubernetes.io/service-name={name}"))[
            "items"
        ]
        present = {each["metadata"]["name"] for each in listed}
        for each, body in desired.items():
            if each in present:
                await self.namespace.kubernetes.request("PATCH", f"{base}/{each}", body, content_type=MERGE_PATCH)
            else:
                await self.namespace.kubernetes.request("POST", base, body)
        for gone in present - desired.keys():
            await self.namespace.kubernetes.request("DELETE", f"{base}/{gone}")

    def _build_slice(self, name: str, port: int | None, address: str | None, states: dict[str, bool]) -> dict[str, Any]:
        return {
            "metadata": {"name": f"{name}-{port}", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": port}],
            "endpoints": [
                {"addresses": [address], "conditions": states, "targetRef": {"kind": "Pod", "name": f"{name}-{port}"}}
            ],
        }

    async def wait_for_status(self, path: str, status: int, *, seconds: float = WITHIN) -> float:
        started = time.monotonic()

        async def check() -> bool:
            return (await self.client.get(path)).status_code == status

        await wait_until(check, seconds=seconds)
        return time.monotonic() - started

    async def get_config_map(self) -> dict[str, Any]:
        return await self.namespace.kubernetes.get(
            f"/api/v1/namespaces/{self.namespace.name}/configmaps/caravan-routing-gateway"
        )


@pytest.fixture(scope="module")
async def world(namespace: Namespace, backends: Backends) -> AsyncIterator[World]:
    operator = OperatorProcess(namespace.name, "--sweep", "5")
    await operator.start()
    url = f"http://127.0.0.1:{operator.snapshots_port}/v1/snapshots/{namespace.name}/gateway"
    try:
        async with (
            run_services(backends, "gateway", registry_url=url) as shop,
            listening(shop.process.app, get_own_address()) as gateway,
            httpx2.AsyncClient(base_url=gateway, timeout=10, trust_env=False) as client,
        ):
            made = World(namespace, operator, shop, client, backends)
            await made.create_service("gateway")
            await made.set_endpoints("gateway", (gateway, READY))
            yield made
    finally:
        await operator.stop()


@pytest.fixture
async def pets(world: World) -> AsyncIterator[tuple[list[Pets], list[str]]]:
    """Three replicas of a service; the first is ready and routed."""
    replicas = [Pets() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        urls = [
            await stack.enter_async_context(listening(each.app(world.backends), get_own_address())) for each in replicas
        ]
        await world.create_service("shop-pets")
        await world.set_endpoints("shop-pets", (urls[0], READY))
        await world.namespace.create_object(
            "ServiceRoute", "pets", {"serviceRef": {"name": "shop-pets"}, "routes": [{"pathsFrom": "OpenAPI"}]}
        )
        await world.wait_for_status("/v1/pets/rex", 200, seconds=15)
        yield replicas, urls
        await world.namespace.delete_object("ServiceRoute", "pets")
        await world.set_endpoints("shop-pets")
        await world.namespace.kubernetes.request(
            "DELETE", f"/api/v1/namespaces/{world.namespace.name}/services/shop-pets"
        )
        await world.wait_for_status("/v1/pets/rex", 404, seconds=15)


async def test_a_route_is_ready_when_the_gateway_has_it_and_its_status_says_what_it_has(
    world: World, pets: Any
) -> None:
    found = await world.namespace.wait_until_ready("ServiceRoute", "pets")
    status = found["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == dict.fromkeys(
        ("Ready", "Accepted", "ResolvedRefs", "EndpointsAvailable", "Programmed"), "True"
    )
    assert status["endpoints"] == {"ready": 1, "serving": 1, "terminating": 0}
    assert status["acknowledged"] == "1/1"
    revision = (await world.client.get("/revision")).json()
    assert status["configRevision"] == revision["revision"] == status["gateways"][0]["revision"]
    assert revision["sequence"] == status["configSequence"]
    assert status["gateways"][0]["name"].startswith("gateway-")


async def test_endpoints_come_and_go_under_load_without_a_failed_request(
    world: World, pets: tuple[list[Pets], list[str]]
) -> None:
    replicas, urls = pets
    statuses: Counter[Any] = Counter()

    async def ask(method: str) -> None:
        while True:
            path = "/v1/pets" if method == "POST" else "/v1/pets/rex"
            statuses[(await world.client.request(method, path)).status_code] += 1

    async def seconds(holds: Any) -> float:
        started = time.monotonic()

        async def check() -> bool:
            return bool(holds())

        await wait_until(check)
        return time.monotonic() - started

    load = [asyncio.create_task(ask(method)) for method in ("GET", "GET", "POST")]
    try:
        await world.set_endpoints("shop-pets", *((url, READY) for url in urls))
        grown = await seconds(lambda: replicas[1].asked and replicas[2].asked)
        await world.set_endpoints("shop-pets", (urls[0], READY), (urls[1], DRAINING), (urls[2], DRAINING))
        started = time.monotonic()
        pool = world.shop.process.discovery._pools["pets"]  # type: ignore[attr-defined]
        await seconds(lambda: pool.list_urls() == {urls[0]})
        shrunk = time.monotonic() - started
        drained = [each.asked for each in replicas]
        await seconds(lambda: replicas[0].asked > drained[0] + 100)
        late = sum(each.asked - before for each, before in zip(replicas[1:], drained[1:], strict=True))
    finally:
        for task in load:
            task.cancel()
        await asyncio.gather(*load, return_exceptions=True)
    print(f"used after {grown:.2f} s, dropped after {shrunk:.2f} s, {sum(statuses.values())} requests")
    assert set(statuses) == {200}, statuses
    assert grown < WITHIN
    assert shrunk < WITHIN
    assert late <= 3

    async def counted() -> bool:
        status = (await world.namespace.get_object("ServiceRoute", "pets"))["status"]
        return bool(status["endpoints"] == {"ready": 1, "serving": 3, "terminating": 2})

    await wait_until(counted)


async def test_of_two_routes_with_one_path_the_younger_is_refused_until_the_older_goes(world: World, pets: Any) -> None:
    namespace = world.namespace
    await namespace.create_object(
        "ServiceRoute", "first", {"serviceRef": {"name": "shop-pets"}, "routes": [{"pathPrefix": "/v1/shared"}]}
    )
    await namespace.wait_until_ready("ServiceRoute", "first")
    second = {
        "serviceRef": {"name": "shop-pets"},
        "routes": [{"pathPrefix": "/v1/shared", "rewritePrefix": "/v1/pets"}],
    }
    await asyncio.sleep(1.1)  # creation times have whole seconds; of one second the name decides
    await namespace.create_object("ServiceRoute", "another", second)
    refused = await namespace.wait_for_reason("ServiceRoute", "another", "Conflict", type="Accepted")
    assert refused["status"]["conflict"] == f"{namespace.name}/first"
    assert (await world.client.get("/v1/shared/rex")).status_code == 404, "the older one has no such page"
    await namespace.delete_object("ServiceRoute", "first")
    await namespace.wait_until_ready("ServiceRoute", "another")
    await world.wait_for_status("/v1/shared/rex", 200)
    await namespace.delete_object("ServiceRoute", "another")


async def test_a_service_or_port_that_is_not_there_is_named(world: World, pets: Any) -> None:
    namespace = world.namespace
    await namespace.create_object("ServiceRoute", "lost", {"serviceRef": {"name": "nowhere"}})
    await namespace.wait_for_reason("ServiceRoute", "lost", "ServiceNotFound", type="ResolvedRefs")
    await namespace.change_spec("ServiceRoute", "lost", {"serviceRef": {"name": "shop-pets", "port": "grpc"}})
    await namespace.wait_for_reason("ServiceRoute", "lost", "PortNotFound", type="ResolvedRefs")
    await namespace.change_spec("ServiceRoute", "lost", {"serviceRef": {"name": "shop-pets", "port": 80}})
    await namespace.wait_until_ready("ServiceRoute", "lost")
    await namespace.delete_object("ServiceRoute", "lost")


async def test_a_pass_that_changes_nothing_writes_nothing(world: World, pets: Any) -> None:
    await world.namespace.wait_until_ready("ServiceRoute", "pets")
    before = [
        (await world.namespace.get_object("ServiceRoute", "pets"))["metadata"]["resourceVersion"],
        (await world.get_config_map())["metadata"],
    ]

    async def swept() -> float:
        lines = [
            line
            for line in (await world.operator.get_probe("metrics"))[1].splitlines()
            if line.startswith('caravan_operator_snapshots_total{result="unchanged"}')
        ]
        return float(lines[0].split()[-1]) if lines else 0.0

    count = await swept()

    async def twice() -> bool:
        return await swept() >= count + 2

    await wait_until(twice, seconds=20, every=0.2)
    after = [
        (await world.namespace.get_object("ServiceRoute", "pets"))["metadata"]["resourceVersion"],
        (await world.get_config_map())["metadata"],
    ]
    assert after == before


async def test_a_lost_config_map_comes_back_with_a_later_sequence(world: World, pets: Any) -> None:
    before = (await world.client.get("/revision")).json()["sequence"]
    path = f"/api/v1/namespaces/{world.namespace.name}/configmaps/caravan-routing-gateway"
    await world.namespace.kubernetes.request("DELETE", path)

    async def back() -> bool:
        return bool((await world.client.get("/revision")).json()["sequence"] > before)

    await wait_until(back, seconds=20)
    assert await world.get_config_map()


async def test_while_the_operator_is_away_all_goes_on_and_its_successor_takes_over(
    world: World, pets: tuple[list[Pets], list[str]]
) -> None:
    replicas, urls = pets
    sequence = (await world.client.get("/revision")).json()["sequence"]
    await world.operator.kill()
    statuses = {(await world.client.get("/v1/pets/rex")).status_code for _ in range(50)}
    assert statuses == {200}
    await world.set_endpoints("shop-pets", (urls[0], READY), (urls[1], READY))
    await world.operator.start()

    async def used() -> bool:
        await world.client.get("/v1/pets/rex")
        return replicas[1].asked > 0

    await wait_until(used, seconds=30)
    assert (await world.client.get("/revision")).json()["sequence"] > sequence
    await world.namespace.wait_until_ready("ServiceRoute", "pets")
