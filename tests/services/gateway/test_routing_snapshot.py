"""Following a routing snapshot, seen at the gateway: endpoints come and go under load, and whatever happens to
the operator stops nothing.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends
from services.inventory.client import GET_AVAILABILITY, AvailabilityRequest
from tests.services.gateway.snapshot_case import TIMEOUT_SECONDS, WITHIN, SnapshotCase
from tests.services.gateway.snapshots import DRAINING, READY, Mounted, Operator, document, endpoint, route
from tests.services.gateway.stand_ins import Pets, listening
from tests.support.shop import Shop, run_services, wait_until

ROUND_SECONDS = 0.02


@dataclass
class Load:
    """Readers and writers at the gateway, without a pause."""

    client: httpx2.AsyncClient
    statuses: Counter[Any] = field(default_factory=Counter)

    async def _read(self) -> None:
        while True:
            await self._count(self.client.get("/v1/pets/rex"))

    async def _write(self) -> None:
        while True:
            await self._count(self.client.post("/v1/pets", content=b"x"))

    async def _count(self, asking: Any) -> None:
        try:
            self.statuses[(await asking).status_code] += 1
        except httpx2.HTTPError as error:
            self.statuses[repr(error)] += 1

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(uow()) for uow in (self._read, self._read, self._read, self._write)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def test_from_one_replica_to_three_and_back_under_load_no_request_fails(
    backends: Backends, tmp_path: Path
) -> None:
    mounted, replicas = Mounted(tmp_path), [Pets() for _ in range(3)]
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(listening(replicas[0].app(backends)))
        mounted.put(document(1, {"pets": [endpoint(first)]}))
        shop = await stack.enter_async_context(run_services(backends, "gateway", registry_file=mounted.path))
        client = await stack.enter_async_context(
            httpx2.AsyncClient(
                base_url=await stack.enter_async_context(listening(shop.process.app)), timeout=10, trust_env=False
            )
        )
        await SnapshotCase(shop, client, mounted, replicas, [first]).routed()
        load = Load(client)
        async with load.running():
            async with listening(replicas[1].app(backends)) as second, listening(replicas[2].app(backends)) as third:
                mounted.put(document(2, {"pets": [endpoint(first), endpoint(second), endpoint(third)]}))
                grown = await _measure_seconds(lambda: replicas[1].asked > 5 and replicas[2].asked > 5)
                leaving = [endpoint(second, **DRAINING), endpoint(third, **DRAINING)]
                mounted.put(document(3, {"pets": [endpoint(first), *leaving]}))
                shrunk = await _measure_until_taken(shop, 3)
                asked = [pets.asked for pets in replicas]
                await _measure_seconds(lambda: replicas[0].asked > asked[0] + 200)
                late = [pets.asked - before for pets, before in zip(replicas[1:], asked[1:], strict=True)]
            mounted.put(document(4, {"pets": [endpoint(first)]}))
            await _measure_seconds(lambda: replicas[0].asked > asked[0] + 300)
    assert set(load.statuses) == {200}, load.statuses
    assert load.statuses[200] > 300
    assert grown < WITHIN
    assert shrunk < WITHIN
    assert max(late) <= 4, "only what was under way when the snapshot changed"


async def _measure_seconds(holds: Any) -> float:
    """Counted in rounds of the loop that gateway and test share: a machine with too much to do makes fewer of them, so
    that its slowness is not taken for the gateway's.
    """
    rounds = 0

    async def check() -> bool:
        nonlocal rounds
        rounds += 1
        return bool(holds())

    await wait_until(check, seconds=TIMEOUT_SECONDS, every=ROUND_SECONDS)
    return rounds * ROUND_SECONDS


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda good: good[: len(good) // 2], "not JSON"),
        (lambda good: good.replace(b"127.0.0.1", b"127.0.0.2"), "revision"),
        (lambda good: document(999, {"pets": [{"address": "somewhere", "port": 1, **READY}]}), "address"),
        (lambda good: document(999, {}, [route("nobody")]), "nobody"),
        (lambda good: document(999, {}, schema="routing.caravan.dev/v9"), "schema"),
        (lambda good: document(999, {"pets": []}, [{"name": "x", "service": "pets"}]), "exactly one of"),
        (lambda good: b"[]", "schema"),
    ],
)
async def test_a_snapshot_that_is_not_sound_is_refused_and_counted(
    snapshot_case: SnapshotCase, spoil: Any, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, counted = (
        (await snapshot_case.client.get("/revision")).json()["revision"],
        await _count_refusals(snapshot_case, "invalid"),
    )
    snapshot_case.mounted.put(
        spoil(document(snapshot_case.sequence + 1, {"pets": [endpoint(url) for url in snapshot_case.urls[:1]]}))
    )

    async def refused() -> bool:
        return await _count_refusals(snapshot_case, "invalid") > counted

    await wait_until(refused)
    assert says in caplog.text
    assert (await snapshot_case.client.get("/revision")).json()["revision"] == before
    assert min(await snapshot_case.spread(6)) > 0


async def _count_refusals(snapshot_case: SnapshotCase, result: str) -> float:
    answer = await snapshot_case.client.get("/metrics")
    assert answer.status_code == 200, answer.text
    lines = answer.text.splitlines()
    return next(
        (
            float(line.split()[-1])
            for line in lines
            if line.startswith(f'caravan_registry_snapshots_total{{result="{result}"')
        ),
        0.0,
    )


async def test_an_older_snapshot_is_ignored(snapshot_case: SnapshotCase) -> None:
    counted = await _count_refusals(snapshot_case, "older")
    snapshot_case.mounted.put(document(snapshot_case.sequence - 1, {"pets": []}))

    async def ignored() -> bool:
        return await _count_refusals(snapshot_case, "older") > counted

    await wait_until(ignored)
    assert min(await snapshot_case.spread(6)) > 0


async def test_the_revision_is_told_to_the_cluster_and_readiness_shows_it(
    snapshot_case: SnapshotCase, backends: Backends
) -> None:
    revision = (await snapshot_case.client.get("/revision")).json()
    assert revision["revision"].startswith("sha256:")
    assert revision["gateway"] == "gateway"
    assert revision["sources"] == {"file": "ok"}
    assert (await snapshot_case.client.get("/readyz")).json()["registry"] == revision
    async with run_services(backends, "gateway") as other:
        answer = await other.client.get("/revision")
        assert answer.status_code == 404
        assert "CARAVAN_REGISTRY_URL" in answer.json()["detail"]


async def test_by_long_poll_a_change_is_in_force_at_once_and_an_operator_that_is_away_stops_nothing(
    backends: Backends,
) -> None:
    pets, operator, is_unavailable = Pets(), Operator(), [False]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if is_unavailable[0]:
            raise OSError("the operator is away")
        await operator(scope, receive, send)

    async with (
        listening(pets.app(backends)) as url,
        listening(app) as registry,
        run_services(backends, "gateway", registry_url=registry) as shop,
    ):
        early = await shop.client.get("/readyz")
        assert early.status_code == 503
        assert "registry" in early.json()["failing"]
        operator.put(document(1, {"pets": [endpoint(url)]}))

        async def answers(status: int) -> bool:
            return (await shop.client.get("/v1/pets/rex")).status_code == status

        assert await _measure_until_taken(shop, 1) < WITHIN
        await wait_until(lambda: answers(200), seconds=TIMEOUT_SECONDS)
        polls = operator.polls
        operator.put(document(2, {"pets": []}))
        assert await _measure_until_taken(shop, 2) < 0.5
        assert operator.polls - polls <= 2, "a poll that has nothing new is held"
        operator.put(document(3, {"pets": [endpoint(url)]}))
        assert await _measure_until_taken(shop, 3) < 0.5
        is_unavailable[0] = True
        operator.put(b"")  # ends the poll that is held

        async def lost() -> bool:
            return bool((await shop.client.get("/revision")).json()["sources"]["url"] != "ok")

        await wait_until(lost)
        assert await answers(200)
        assert (await shop.client.get("/readyz")).json()["registry"]["sequence"] == 3
        assert 'caravan_registry_reachable{source="url"} 0.0' in (await shop.client.get("/metrics")).text
        is_unavailable[0] = False
        operator.put(document(4, {"pets": []}))
        assert await _measure_until_taken(shop, 4) < 5


async def _measure_until_taken(shop: Shop, sequence: int) -> float:
    return await _measure_seconds(
        lambda: (
            (shop.process.discovery.current_snapshot and shop.process.discovery.current_snapshot.sequence) == sequence
        )
    )


async def test_of_file_and_operator_the_newer_counts(backends: Backends, tmp_path: Path) -> None:
    mounted, operator = Mounted(tmp_path), Operator()
    mounted.put(document(5, {}))
    operator.put(document(4, {"pets": []}))
    async with (
        listening(operator) as registry,
        run_services(backends, "gateway", registry_url=registry, registry_file=mounted.path) as shop,
    ):
        await _measure_until_taken(shop, 5)
        operator.put(document(6, {"pets": []}))
        assert await _measure_until_taken(shop, 6) < WITHIN
        mounted.put(document(7, {}))
        assert await _measure_until_taken(shop, 7) < WITHIN


async def test_services_call_each_other_where_the_snapshot_says_and_around_an_endpoint_that_is_gone(
    backends: Backends, tmp_path: Path
) -> None:
    mounted = Mounted(tmp_path)
    async with run_services(backends, "inventory") as other, listening(other.process.app) as url:
        gone = endpoint("http://127.0.0.1:9")
        breaker = {"consecutiveFailures": 3, "openFor": 60.0}
        mounted.put(
            document(
                1,
                {
                    "inventory": {
                        "endpoints": [gone, endpoint(url)],
                        "circuitBreaker": breaker,
                        "retry": {"unsent": True},
                    }
                },
            )
        )
        async with run_services(backends, "gateway", registry_file=mounted.path) as shop:
            await _measure_until_taken(shop, 1)
            calls, request = shop.get_context("gateway").call, AvailabilityRequest(skus=["A1234"])
            await other.get_context("inventory").call(GET_AVAILABILITY, request)
            patient = replace(GET_AVAILABILITY, seconds=10)
            for operation in [patient, replace(patient, is_repeatable=False)] * 10:
                await calls(operation, request)  # of the second kind, too: nobody has heard the first attempt
            pool = shop.process.discovery._pools["inventory"]  # type: ignore[attr-defined]
            unreached = {each.url for each in pool._endpoints.values() if each.unreachable_at > 0}
            assert unreached == {"http://127.0.0.1:9"}
            mounted.put(document(2, {"inventory": []}))
            await _measure_until_taken(shop, 2)
            with pytest.raises(ServiceUnavailable, match="inventory"):
                await calls(GET_AVAILABILITY, request)
