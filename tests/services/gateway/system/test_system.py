"""`/v1/system` over services of this process, of another process, and over some that do not answer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from caravan.clock import utc_now
from caravan.jobs import JobStore
from caravan.runtime import Backends
from caravan.status import StatusReporter, record_rebuild
from services.gateway.system import collect
from services.gateway.system.view import SystemService
from services.inventory.messages import STOCK_CHANGED
from services.orders.messages import ORDER_CREATED
from tests.services.gateway.snapshots import Mounted, document, endpoint
from tests.services.gateway.stand_ins import listening
from tests.support.shop import Shop, run_services, wait_until


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", "catalog", "inventory") as running:
        yield running


async def read_system(shop: Shop, role: str = "staff") -> Any:
    answer = await shop.client.get("/v1/system", headers=shop.issue_headers(role))
    assert answer.status_code == 200, answer.text
    return answer.json()


def get_named(items: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(item for item in items if item["name"] == name)


async def test_it_tells_which_services_answer_and_which_do_not(shop: Shop) -> None:
    system = await read_system(shop)
    catalog, orders = get_named(system["services"], "catalog"), get_named(system["services"], "orders")
    assert (catalog["state"], orders["state"]) == ("up", "down")
    assert catalog["instances"][0]["url"] is None and catalog["instances"][0]["uptime_seconds"] >= 0
    assert orders["instances"] == [] and orders["reasons"]
    assert "orders" in {part["part"] for part in system["partial"]}
    assert "catalog" not in {part["part"] for part in system["partial"]}


async def test_rates_are_there_with_the_second_look(shop: Shop) -> None:
    await read_system(shop)
    for _ in range(5):
        assert (await shop.client.get("/v1/products")).status_code == 200

    async def has_rates() -> dict[str, Any] | None:
        requests: dict[str, Any] = get_named((await read_system(shop))["services"], "catalog")["requests"]
        return requests if requests["answered"]["per_second"] else None

    requests = await wait_until(has_rates, every=0.3)
    assert requests["answered"]["total"] >= 5 and requests["mean_seconds"] > 0
    assert requests["failed"]["per_second"] == 0


async def test_every_declared_channel_is_there_with_who_reads_it(shop: Shop) -> None:
    channels = {channel["name"]: channel for channel in (await read_system(shop))["channels"]}
    assert channels["audit"]["type"] == "topic" and channels["inventory.reserve-stock"]["type"] == "queue"
    assert channels[STOCK_CHANGED.name]["purpose"]


async def test_each_consumer_group_of_a_service_is_told_apart(backends: Backends) -> None:
    async with run_services(backends, "gateway", "analytics") as shop:

        async def find_groups() -> bool:
            (created,) = [one for one in (await read_system(shop))["channels"] if one["name"] == ORDER_CREATED.name]
            groups = {(reader["service"], reader["group"]): reader["waiting"] for reader in created["subscriptions"]}
            assert groups == {("analytics", "analytics"): 0, ("analytics", "reporting"): 0}
            return True

        await wait_until(find_groups, every=0.3)


async def test_ten_who_ask_at_once_cost_one_gathering(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    gatherings = 0
    original = collect.collect_status

    async def count(context: Any) -> Any:
        nonlocal gatherings
        gatherings += 1
        return await original(context)

    await asyncio.sleep(collect.CACHE_SECONDS)
    monkeypatch.setattr(collect, "collect_status", count)
    answers = await asyncio.gather(*(read_system(shop) for _ in range(10)))
    assert gatherings == 1 and all(answer == answers[0] for answer in answers)
    await read_system(shop)
    assert gatherings == 1, "an answer counts for a second"
    await asyncio.sleep(collect.CACHE_SECONDS)
    await read_system(shop)
    assert gatherings == 2


async def test_who_asked_first_may_go_without_taking_the_answer_from_others(shop: Shop) -> None:
    reader = collect.SystemStatusReader(shop.get_context("gateway"))
    first = asyncio.create_task(reader.read_status())
    second = asyncio.create_task(reader.read_status())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).services


async def test_jobs_without_redis_are_named_as_missing(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = shop.get_context("gateway")
    monkeypatch.setattr(gateway.jobs, "store", JobStore("redis://127.0.0.1:1/0"))
    status = await collect.collect_status(gateway)
    assert status.job_queues == []
    assert next(part for part in status.partial if part.part == collect.JOB_QUEUES).reason.startswith("the Redis of")


async def test_an_open_breaker_is_told_with_its_cause_and_its_end(shop: Shop) -> None:
    gateway = shop.get_context("gateway")
    breaker = gateway.call.get_breaker("orders")
    for _ in range(breaker.consecutive):
        breaker.record_failure()
    try:
        status = await collect.collect_status(gateway)
    finally:
        gateway.call._breakers.clear()
    found = next(item for item in status.breakers if (item.service, item.target) == ("gateway", "orders"))
    assert (found.state, found.cause) == ("open", "5 calls in a row failed")
    assert found.until is not None and found.until > status.as_of


GONE = "http://127.0.0.1:1"


@pytest.fixture(scope="module")
async def apart(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Shop, str]]:
    """A gateway, and catalog in a process of its own, of which there should be another one."""
    mounted = Mounted(tmp_path_factory.mktemp("registry"))
    async with run_services(backends, "catalog") as remote, listening(remote.process.app) as url:
        mounted.put(document(1, {"catalog": [endpoint(url), endpoint(GONE)]}))
        async with run_services(backends, "gateway", registry_file=mounted.path) as gateway:
            yield gateway, url


async def test_each_process_of_a_service_is_asked_and_the_one_that_is_gone_is_named(apart: tuple[Shop, str]) -> None:
    gateway, url = apart

    async def is_degraded() -> SystemService | None:
        status = await collect.collect_status(gateway.get_context("gateway"))
        catalog = next(service for service in status.services if service.name == "catalog")
        assert [(part.url, "can't be reached" in part.reason) for part in status.partial if part.part == "catalog"] == [
            (GONE, True)
        ]
        assert status.routing is not None and status.routing.sequence == 1
        return catalog if catalog.state == "degraded" else None

    catalog = await wait_until(is_degraded)
    assert [instance.url for instance in catalog.instances] == [url]


async def test_a_process_that_hangs_is_named_after_the_deadline(
    apart: tuple[Shop, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, url = apart

    async def hang(_: Any) -> Any:
        await asyncio.sleep(10)

    monkeypatch.setattr(StatusReporter, "build_status", lambda *_: hang(None))
    began = asyncio.get_running_loop().time()
    status = await collect.collect_status(gateway.get_context("gateway"))
    assert asyncio.get_running_loop().time() - began < 3
    reasons = {part.url: part.reason for part in status.partial if part.part == "catalog"}
    assert "within 1 s" in reasons[url]
    assert next(service for service in status.services if service.name == "catalog").state == "down"


async def test_staff_see_it_and_customers_do_not(shop: Shop) -> None:
    assert (await shop.client.get("/v1/system", headers=shop.issue_headers("customer"))).status_code == 403
    assert (await shop.client.get("/v1/system")).status_code == 401


async def test_a_rebuild_is_seen_in_another_process_while_it_runs(backends: Backends) -> None:
    async with run_services(backends, "gateway", "recommendations") as shop:

        async def find_rebuild() -> Any:
            return get_named((await read_system(shop))["projections"], "purchases")["rebuild"]

        async with record_rebuild("purchases", backends.redis_url, utc_now) as recorder:
            recorder.events = 1500

            async def is_running() -> bool:
                found = await find_rebuild()
                return bool(found and found["state"] == "running" and found["events"] == 1500)

            await wait_until(is_running, every=0.2)
            recorder.state = "identical"

        async def has_ended() -> bool:
            return bool((await find_rebuild())["state"] == "identical")

        await wait_until(has_ended, every=0.2)


async def test_without_its_redis_the_rest_is_answered(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def find_nothing(*_: Any) -> Any:
        raise ConnectionError("no Redis")

    monkeypatch.setattr(collect, "find_rebuilds", find_nothing)
    system = await collect.collect_status(shop.get_context("gateway"))
    assert "rebuilds" in {part.part for part in system.partial}
    assert "catalog" in {service.name for service in system.services if service.state == "up"}
