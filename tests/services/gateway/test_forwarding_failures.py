"""Passing requests on to services that fail, hang, went away or are not known yet."""

import asyncio
import contextlib
import itertools
from collections.abc import Collection
from typing import Any

import pytest

from caravan.discovery import Endpoint, EndpointPool
from caravan.runtime import Backends, process
from services.gateway.settings import Settings
from tests.services.gateway.forwarding_case import ForwardingCase
from tests.services.gateway.stand_ins import Pets, known, listening, registered
from tests.support.shop import run_services, wait_until


async def test_a_service_that_does_not_answer_in_time_is_given_up(
    forwarding: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarding.shop.get_context("gateway"), "settings", Settings(read_timeout_seconds=0.1))
    answer = await forwarding.client.get(f"/v1/{forwarding.pets.name}/rex/sleep")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert answer.headers["content-type"] == "application/problem+json"


async def test_the_routes_of_a_service_that_went_away_are_kept_and_answer_503(backends: Backends) -> None:
    pets = Pets("birds")
    async with run_services(backends, "gateway") as shop:
        async with registered(shop, pets, backends):
            assert (await shop.client.get("/v1/birds/rex")).status_code == 200
        await shop.get_context("gateway").resources.table.refresh()
        refused = await shop.client.get("/v1/birds/rex")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await shop.client.get("/v1/nothing")).status_code == 404


async def test_the_breaker_of_a_failing_service_opens_answers_at_once_and_closes_again(
    remote_forwarding: ForwardingCase,
) -> None:
    breaker: Any = remote_forwarding.shop.get_context("gateway").call.get_breaker("pets")
    for _ in range(30):  # what the client did wrong is no failure of the service
        assert (await remote_forwarding.client.get("/v1/pets/nobody")).status_code == 404
    assert breaker.state == "closed"
    remote_forwarding.pets.failing = True
    for _ in range(breaker.consecutive):
        assert (await remote_forwarding.client.get("/v1/pets/rex")).status_code == 503
    assert breaker.state == "open"
    asked = remote_forwarding.pets.asked
    refused = await remote_forwarding.client.get("/v1/pets/rex")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert remote_forwarding.pets.asked == asked
    metrics = (await remote_forwarding.client.get("/metrics")).text
    assert 'caravan_breaker_state{service="gateway",target="pets"} 2.0' in metrics
    remote_forwarding.pets.failing, breaker.open_for = False, 0.05

    async def closed() -> bool:
        await remote_forwarding.client.get("/v1/pets/rex")
        return bool(breaker.state == "closed")

    await wait_until(closed)
    assert (await remote_forwarding.client.get("/v1/pets/rex")).status_code == 200


async def test_what_did_not_reach_an_endpoint_goes_to_another_however_often(
    remote_forwarding: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery = remote_forwarding.shop.process.discovery
    gone, in_process = EndpointPool("pets"), EndpointPool("pets")
    gone.update_endpoints(["http://127.0.0.1:9"])
    in_process.update_endpoints([(await discovery.acquire_endpoint("pets")).url])
    turns = itertools.cycle([gone, in_process])

    async def locate(_: str, __: Collection[str] = ()) -> Endpoint:
        return next(turns).acquire()

    monkeypatch.setattr(discovery, "acquire_endpoint", locate)
    reads = [(await remote_forwarding.client.get("/v1/pets/rex")).status_code for _ in range(20)]
    writes = [(await remote_forwarding.client.post("/v1/pets", content=b"x")).status_code for _ in range(20)]
    assert set(reads) == set(writes) == {200}


async def test_reads_whose_connections_break_are_done_elsewhere_and_writes_are_not(
    remote_forwarding: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three endpoints take requests and end without an answer, as processes do that are killed."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with contextlib.AsyncExitStack() as stack:
        dying = [await stack.enter_async_context(await asyncio.start_server(end, "127.0.0.1", 0)) for _ in range(2)]
        discovery = remote_forwarding.shop.process.discovery
        pool = EndpointPool("pets")
        sound = (await discovery.acquire_endpoint("pets")).url
        pool.update_endpoints([sound, *(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in dying)])

        async def locate(_: str, tried: Collection[str] = ()) -> Endpoint:
            return pool.acquire(tried)

        monkeypatch.setattr(discovery, "acquire_endpoint", locate)
        reads = await asyncio.gather(*(remote_forwarding.client.get("/v1/pets/rex") for _ in range(60)))
        assert {answer.status_code for answer in reads} == {200}
        pool.update_endpoints([url for url in pool.list_urls() if url != sound])
        broken = await remote_forwarding.client.post("/v1/pets", content=b"x")
        assert broken.status_code == 503, "nobody knows whether it was done"


async def test_by_name_a_service_not_reached_yet_makes_unknown_paths_503(
    monkeypatch: pytest.MonkeyPatch, backends: Backends
) -> None:
    monkeypatch.setenv("GATEWAY_SERVICES", "pets")
    pets = Pets()
    down = [True]

    async def app(scope: object, receive: object, send: object) -> None:
        if down[0]:
            raise OSError("not up yet")
        await real(scope, receive, send)  # type: ignore[arg-type]

    real = pets.app(backends)
    async with (
        listening(app) as url,
        run_services(backends, "gateway", discovery=url.replace("//", "//{service}@")) as shop,
    ):
        early = await shop.client.get("/v1/pets/rex")
        assert early.status_code == 503
        assert "pets" in early.json()["detail"]
        down[0] = False
        await known(shop, "pets")
        assert (await shop.client.get("/v1/pets/rex")).status_code == 200
        assert (await shop.client.get("/v1/nothing")).status_code == 404


async def test_a_gateway_is_not_there_before_it_knows_the_routes_of_services_that_are(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its own process and in others': periodic work, which comes after the start, is not needed for it."""

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(process, "run_periodically", never)
    pets = Pets()
    async with listening(pets.app(backends)) as url, run_services(backends) as elsewhere:
        await elsewhere.process.discovery.register_services(["pets"], url)
        async with run_services(backends, "gateway", "catalog") as shop:
            table = shop.get_context("gateway").resources.table
            assert {"pets", "catalog"} <= table.documents.keys()
            assert (await shop.client.get("/v1/pets/rex")).status_code == 200
            assert (await shop.client.get("/v1/products")).status_code == 200
