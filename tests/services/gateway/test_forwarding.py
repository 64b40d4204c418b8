"""Passing requests on, to a service in this process and to one in another."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from tests.services.gateway.forwarding_case import ForwardingCase


async def test_the_service_gets_the_request_without_what_belongs_to_the_connection_or_only_we_may_say(
    forwarding: ForwardingCase,
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
    answer = await forwarding.client.post(f"/v1/{forwarding.pets.name}?a=1&b=%2F", content=b"hello", headers=headers)
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
    assert got["x-forwarded-host"] == forwarding.client.base_url.netloc.decode()
    assert got["x-request-id"] == answer.headers["x-request-id"] == "mine-7"
    assert got["traceparent"][3:35] == "0af7651916cd43dd8448eb211c80319c"
    assert got["idempotency-key"] == "k1"
    assert got["x-other"] == "kept"
    assert got.get("x-caravan-forwarder") != "forged"


async def test_the_client_gets_the_answer_without_what_belongs_to_the_connection(
    remote_forwarding: ForwardingCase,
) -> None:
    answer = await remote_forwarding.client.get("/v1/pets/rex/reply")
    assert answer.text == "ok"
    assert answer.headers["x-public"] == "1"
    assert "x-private" not in answer.headers
    assert "keep-alive" not in answer.headers
    assert len(answer.headers.get_list("date")) == 1


async def test_an_unknown_path_is_a_problem_and_a_known_path_with_another_method_is_the_services_to_refuse(
    forwarding: ForwardingCase,
) -> None:
    unknown = await forwarding.client.get("/v1/nothing")
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    wrong = await forwarding.client.delete(f"/v1/{forwarding.pets.name}/rex")
    assert wrong.status_code == 405
    assert wrong.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/internal/secret", "/v1/pets/..", "/v1/pets/%2e%2e", "/v1/pets/../../internal/secret", "/v1/pets/"]
)
async def test_internal_paths_and_steps_upwards_lead_nowhere(forwarding: ForwardingCase, path: str) -> None:
    path, host = path.replace("pets", forwarding.pets.name), forwarding.client.base_url
    reader, writer = await asyncio.open_connection(host.host, host.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())
    status = (await reader.readline()).split()[1]
    writer.close()
    assert status == b"404"
    assert forwarding.pets.asked == 0


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
async def test_whom_a_request_is_for_is_said_once_and_soundly(
    forwarding: ForwardingCase, raw: str, status: int
) -> None:
    host = forwarding.client.base_url
    reader, writer = await asyncio.open_connection(host.host, host.port)
    writer.write(f"{raw.replace('pets', forwarding.pets.name)}connection: close\r\n\r\n0\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert status == 200 or b"application/problem+json" in answer


async def test_an_answer_streams_and_the_clients_leaving_reaches_the_service(forwarding: ForwardingCase) -> None:
    async with forwarding.client.stream("GET", f"/v1/{forwarding.pets.name}/rex/song") as answer:
        parts = answer.aiter_raw()
        assert await anext(parts) == b"first"  # while the rest has not been made
        assert not forwarding.pets.released.is_set()
    await asyncio.wait_for(forwarding.pets.left.wait(), 5)


async def test_an_answer_is_passed_on_whole(forwarding: ForwardingCase) -> None:
    forwarding.pets.released.set()
    answer = await forwarding.client.get(f"/v1/{forwarding.pets.name}/rex/song")
    assert answer.content == b"firstlast"


async def test_a_body_over_one_mebibyte_is_refused_by_its_length_and_by_what_comes(forwarding: ForwardingCase) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100_000

    path = f"/v1/{forwarding.pets.name}"
    declared = await forwarding.client.post(path, content=b"x" * (1024 * 1024 + 1))
    streamed = await forwarding.client.post(path, content=chunks())
    parsed = await forwarding.client.post(
        f"{path}/forms", content=chunks(), headers={"content-type": "application/json"}
    )
    assert [answer.status_code for answer in (declared, streamed, parsed)] == [413, 413, 413]
    assert {answer.headers["content-type"] for answer in (declared, streamed, parsed)} == {"application/problem+json"}
    assert (await forwarding.client.post(path, content=b"x" * 1024 * 1024)).status_code == 200


async def test_forwarding_to_a_service_in_this_process_costs_less_than_150_microseconds(
    in_process: ForwardingCase, monkeypatch: pytest.MonkeyPatch
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

    token = in_process.shop.issuer.issue_token().encode()
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
    await in_process.client.get("/v1/cats/rex")
    monkeypatch.setitem(in_process.shop.process.peers, "cats", bare)
    app = in_process.shop.process.peers["gateway"]
    await ask(50)
    assert min([await ask(300) for _ in range(5)]) < 0.000_15
