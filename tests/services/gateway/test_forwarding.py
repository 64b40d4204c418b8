"""Passing requests on, to a service in this process and to one in another."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from caravan.discovery import Endpoint, EndpointPool
from caravan.runtime import Backends, process
from services.gateway.settings import Settings
from tests.services.gateway.stand_ins import Pets, known, listening, registered
from tests.support.shop import Shop, run_services, wait_until


@dataclass
class Case:
    shop: Shop
    pets: Pets
    client: httpx2.AsyncClient
    """Over a real connection: the shop's own client takes whole answers only."""


@contextlib.asynccontextmanager
async def _case(shop: Shop, pets: Pets) -> AsyncIterator[Case]:
    async with (
        listening(shop.process.app) as url,
        httpx2.AsyncClient(base_url=url, timeout=10, trust_env=False) as client,
    ):
        yield Case(shop, pets, client)


@pytest.fixture(scope="module")
async def here(backends: Backends) -> AsyncIterator[Case]:
    pets = Pets("cats")
    async with run_services(backends, "gateway", extra_services=(pets.here(),)) as shop, _case(shop, pets) as made:
        yield made


@pytest.fixture(scope="module")
async def there(backends: Backends) -> AsyncIterator[Case]:
    pets = Pets()
    async with run_services(backends, "gateway") as shop, registered(shop, pets, backends), _case(shop, pets) as made:
        yield made


@pytest.fixture(params=["in this process", "in another process"])
def case(request: pytest.FixtureRequest, here: Case, there: Case) -> Case:
    made = here if request.param == "in this process" else there
    made.pets.reset()
    return made


@pytest.fixture
def remote(there: Case) -> Case:
    there.pets.reset()
    return there


async def test_the_service_gets_the_request_without_what_belongs_to_the_connection_or_only_we_may_say(
    case: Case,
) -> None:
    headers = {
        "connection": "keep-alive, x-mine",
        "x-mine": "1",
        "te": "trailers",
        "keep-alive": "timeout=5",
        "proxy-authorization": "Basic eA==",
        "x-forwarded-for": "1.2.3.4",
        "x-forwarded-host": "evil.example",
        "forwarded": "for=1.2.3.4",
        "x-real-ip": "1.2.3.4",
        "x-user-authorization": "Bearer forged",
        "x-caravan-forwarder": "forged",
        "x-caravan-seconds": "9999",
        "x-request-id": "mine-7",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "idempotency-key": "k1",
        "x-other": "kept",
    }
    answer = await case.client.post(f"/v1/{case.pets.name}?a=1&b=%2F", content=b"hello", headers=headers)
    assert answer.status_code == 200
    seen = answer.json()
    got = dict(seen["headers"])
    assert seen["body"] == "hello"
    assert seen["query"] == "a=1&b=%2F"
    assert seen["peer"] == "127.0.0.1"
    assert (
        not {"te", "keep-alive", "proxy-authorization", "x-mine", "forwarded", "x-real-ip", "x-user-authorization"}
        & got.keys()
    )
    assert got.get("x-caravan-seconds") != "9999"
    assert got["x-forwarded-for"] == "127.0.0.1"
    assert got["x-forwarded-proto"] == "http"
    assert got["x-forwarded-host"] == case.client.base_url.netloc.decode()
    assert got["x-request-id"] == answer.headers["x-request-id"] == "mine-7"
    assert got["traceparent"][3:35] == "0af7651916cd43dd8448eb211c80319c"
    assert got["idempotency-key"] == "k1"
    assert got["x-other"] == "kept"
    assert got.get("x-caravan-forwarder") != "forged"


async def test_the_client_gets_the_answer_without_what_belongs_to_the_connection(remote: Case) -> None:
    answer = await remote.client.get("/v1/pets/rex/reply")
    assert answer.text == "ok"
    assert answer.headers["x-public"] == "1"
    assert "x-private" not in answer.headers
    assert "keep-alive" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


async def test_an_unknown_path_is_a_problem_and_a_known_path_with_another_method_is_the_services_to_refuse(
    case: Case,
) -> None:
    unknown = await case.client.get("/v1/nothing")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    wrong = await case.client.delete(f"/v1/{case.pets.name}/rex")
    assert wrong.status_code == 405
    assert wrong.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/internal/secret", "/v1/pets/..", "/v1/pets/%2e%2e", "/v1/pets/../../internal/secret", "/v1/pets/"]
)
async def test_internal_paths_and_steps_upwards_lead_nowhere(case: Case, path: str) -> None:
    path, host = path.replace("pets", case.pets.name), case.client.base_url
    reader, writer = await asyncio.open_connection(host.host, host.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status == b"404"
    assert case.pets.asked == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("GET /v1/pets/rex HTTP/1.1\r\n", 400),
        ("GET /v1/pets/rex HTTP/1.0\r\n", 200),
        ("GET /v1/pets/rex HTTP/1.1\r\nhost: a/b@c <x>\r\n", 400),
        ("GET /v1/pets/rex HTTP/1.1\r\nhost: x:80,y\r\n", 400),
        ("GET /v1/pets/rex HTTP/1.1\r\nhost: x:8o\r\n", 400),
        ("GET /v1/pets/rex HTTP/1.1\r\nhost: [::1]:80\r\n", 200),
        ("GET /v1/pets/rex HTTP/1.1\r\nhost:\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nhost: x\r\n", 404),
        ("POST /v1/pets HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n", 400),
    ],
)
async def test_whom_a_request_is_for_is_said_once_and_soundly(case: Case, raw: str, status: int) -> None:
    host = case.client.base_url
    reader, writer = await asyncio.open_connection(host.host, host.port)
    writer.write(f"{raw.replace('pets', case.pets.name)}connection: close\r\n\r\n0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert status == 200 or b"application/problem+json" in answer


async def test_an_answer_streams_and_the_clients_leaving_reaches_the_service(case: Case) -> None:
    async with case.client.stream("GET", f"/v1/{case.pets.name}/rex/song") as answer:
        parts = answer.aiter_raw()
        assert await anext(parts) == b"first"  # while the rest has not been made
        assert not case.pets.released.is_set()
    await asyncio.wait_for(case.pets.left.wait(), 5)


async def test_an_answer_is_passed_on_whole(case: Case) -> None:
    case.pets.released.set()
    answer = await case.client.get(f"/v1/{case.pets.name}/rex/song")
    assert answer.content == b"firstlast"


async def test_a_body_over_one_mebibyte_is_refused_by_its_length_and_by_what_comes(case: Case) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    path = f"/v1/{case.pets.name}"
    declared = await case.client.post(path, content=b"x" * (1024 * 1024 + 1))
    streamed = await case.client.post(path, content=chunks())
    parsed = await case.client.post(f"{path}/forms", content=chunks(), headers={"content-type": "application/json"})
    assert [answer.status_code for answer in (declared, streamed, parsed)] == [413, 413, 413]
    assert {answer.headers["content-type"] for answer in (declared, streamed, parsed)} == {"application/problem+json"}
    assert (await case.client.post(path, content=b"x" * 1024 * 1024)).status_code == 200


async def test_a_service_that_does_not_answer_in_time_is_given_up(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(case.shop.get_context("gateway"), "settings", Settings(read_seconds=0.1))
    answer = await case.client.get(f"/v1/{case.pets.name}/rex/sleep")
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


async def test_the_breaker_of_a_failing_service_opens_answers_at_once_and_closes_again(remote: Case) -> None:
    breaker: Any = remote.shop.get_context("gateway").call.get_breaker("pets")
    for _ in range(30):  # what the client did wrong is no failure of the service
        assert (await remote.client.get("/v1/pets/nobody")).status_code == 404
    assert breaker.state == "closed"
    remote.pets.failing = True
    for _ in range(breaker.consecutive):
        assert (await remote.client.get("/v1/pets/rex")).status_code == 503
    assert breaker.state == "open"
    asked = remote.pets.asked
    refused = await remote.client.get("/v1/pets/rex")
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "5"
    assert remote.pets.asked == asked
    metrics = (await remote.client.get("/metrics")).text
    assert 'caravan_breaker_state{service="gateway",target="pets"} 2.0' in metrics
    remote.pets.failing, breaker.open_for = False, 0.05

    async def closed() -> bool:
        await remote.client.get("/v1/pets/rex")
        return bool(breaker.state == "closed")

    await wait_until(closed)
    assert (await remote.client.get("/v1/pets/rex")).status_code == 200


async def test_what_did_not_reach_an_endpoint_goes_to_another_however_often(
    remote: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    discovery = remote.shop.process.discovery
    gone, here = EndpointPool("pets"), EndpointPool("pets")
    gone.update_endpoints(["http://127.0.0.1:9"])
    here.update_endpoints([(await discovery.acquire_endpoint("pets")).url])
    turns = itertools.cycle([gone, here])

    async def locate(_: str, __: Collection[str] = ()) -> Endpoint:
        return next(turns).acquire()

    monkeypatch.setattr(discovery, "acquire_endpoint", locate)
    reads = [(await remote.client.get("/v1/pets/rex")).status_code for _ in range(20)]
    writes = [(await remote.client.post("/v1/pets", content=b"x")).status_code for _ in range(20)]
    assert set(reads) == set(writes) == {200}


async def test_reads_whose_connections_break_are_done_elsewhere_and_writes_are_not(
    remote: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of three endpoints take requests and end without an answer, as processes do that are killed."""

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with contextlib.AsyncExitStack() as stack:
        dying = [await stack.enter_async_context(await asyncio.start_server(end, "127.0.0.1", 0)) for _ in range(2)]
        discovery = remote.shop.process.discovery
        pool = EndpointPool("pets")
        sound = (await discovery.acquire_endpoint("pets")).url
        pool.update_endpoints([sound, *(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in dying)])

        async def locate(_: str, tried: Collection[str] = ()) -> Endpoint:
            return pool.acquire(tried)

        monkeypatch.setattr(discovery, "acquire_endpoint", locate)
        reads = await asyncio.gather(*(remote.client.get("/v1/pets/rex") for _ in range(60)))
        assert {answer.status_code for answer in reads} == {200}
        pool.update_endpoints([url for url in pool.list_urls() if url != sound])
        broken = await remote.client.post("/v1/pets", content=b"x")
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


async def test_forwarding_to_a_service_in_this_process_costs_less_than_150_microseconds(
    here: Case, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def ask(count: int) -> float:
        started = time.process_time()
        for _ in range(count):
            await app(dict(scope), receive, send)
        return (time.process_time() - started) / count

    async def bare(_: object, __: object, send_: object) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_: object) -> None: ...

    token = here.shop.issuer.issue_token().encode()
    headers = [
        (b"host", b"x"),
        (b"accept", b"*/*"),
        (b"authorization", b"Bearer " + token),
        (b"user-agent", b"x"),
        (b"connection", b"keep-alive"),
    ]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/cats/rex",
        "raw_path": b"/v1/cats/rex",
        "query_string": b"",
        "headers": headers,
    }
    scope |= {"scheme": "http", "client": ("127.0.0.1", 1), "server": ("x", 80), "root_path": "", "http_version": "1.1"}
    await here.client.get("/v1/cats/rex")
    monkeypatch.setitem(here.shop.process.peers, "cats", bare)
    app = here.shop.process.peers["gateway"]
    await ask(50)
    assert min([await ask(300) for _ in range(5)]) < 0.000_15


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
