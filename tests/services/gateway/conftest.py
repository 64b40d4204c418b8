"""Fixtures of the gateway's tests: a service in its process, and one in another."""

import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest

from caravan.runtime import Backends
from tests.services.gateway.forwarding_case import ForwardingCase, open_forwarding_case
from tests.services.gateway.snapshot_case import SnapshotCase
from tests.services.gateway.snapshots import Mounted, document, endpoint
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import run_services


@pytest.fixture(scope="module")
async def in_process(backends: Backends) -> AsyncIterator[ForwardingCase]:
    pets = Pets("cats")
    async with (
        run_services(backends, "gateway", extra_services=(pets.here(),)) as shop,
        open_forwarding_case(shop, pets) as made,
    ):
        yield made


@pytest.fixture(scope="module")
async def in_other_process(backends: Backends) -> AsyncIterator[ForwardingCase]:
    pets = Pets()
    async with (
        run_services(backends, "gateway") as shop,
        registered(shop, pets, backends),
        open_forwarding_case(shop, pets) as made,
    ):
        yield made


@pytest.fixture(params=["in this process", "in another process"])
def forwarding(
    request: pytest.FixtureRequest, in_process: ForwardingCase, in_other_process: ForwardingCase
) -> ForwardingCase:
    made = in_process if request.param == "in this process" else in_other_process
    made.pets.reset()
    return made


@pytest.fixture
def remote_forwarding(in_other_process: ForwardingCase) -> ForwardingCase:
    in_other_process.pets.reset()
    return in_other_process


@pytest.fixture(scope="module")
async def snapshot_gateway(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[SnapshotCase]:
    mounted = Mounted(tmp_path_factory.mktemp("registry"))
    replicas = [Pets() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        urls = [await stack.enter_async_context(listening(pets.app(backends))) for pets in replicas]
        mounted.put(document(1, {"pets": [endpoint(urls[0])]}))
        shop = await stack.enter_async_context(run_services(backends, "gateway", registry_file=mounted.path))
        url = await stack.enter_async_context(listening(shop.process.app))
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False))
        yield SnapshotCase(shop, client, mounted, replicas, urls)


@pytest.fixture
async def snapshot_case(snapshot_gateway: SnapshotCase) -> SnapshotCase:
    """All three replicas ready, and nothing remembered of what failed before."""
    for pets in snapshot_gateway.replicas:
        pets.reset()
    gateway = snapshot_gateway.shop.get_context("gateway")
    gateway.call._breakers.clear()
    gateway.resources.upstreams._budgets.clear()
    await snapshot_gateway.put({})
    await snapshot_gateway.put({"pets": [endpoint(url) for url in snapshot_gateway.urls]})
    await snapshot_gateway.routed()
    return snapshot_gateway
