"""How the middleware bounds the body of a request: its size, its time, and what all bodies hold together."""

import asyncio
import json

import pytest

from caravan.http import RequestBody, RequestMiddleware, middleware
from caravan.http.middleware import Receive, Scope
from tests.caravan.http.asgi_client import (
    KEY,
    Client,
    make_client,
    read_size,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("headers", "chunks", "status"),
    [
        ([(b"content-length", b"%d" % (MIB + 1))], [], 413),
        ([(b"content-length", b"1" * 30)], [], 413),
        ([(b"content-length", b"-1")], [], 400),
        ([(b"transfer-encoding", b"gzip, chunked")], [], 400),
        ([(b"transfer-encoding", b"chunked")], [b"x" * MIB, b"x"], 413),
        ([(b"transfer-encoding", b"Chunked")], [b"x" * (MIB - 1), b"x"], 200),
        ([(b"content-length", b"2")], [b"x", b"x"], 200),
    ],
)
async def test_a_body_is_refused_over_its_bound_by_what_it_declares_or_by_what_comes(
    headers: list[tuple[bytes, bytes]], chunks: list[bytes], status: int
) -> None:
    response = await make_client(read_size).send_request("POST", headers, chunks)
    assert response.status == status
    assert RequestBody.total_buffered_bytes == 0


async def test_a_body_that_comes_too_slowly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_SECONDS", 0.02)
    never: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
    response = await make_client(read_size).send_request("POST", [(b"content-length", b"9")], [b"x", never])
    assert response.status == 408
    assert "0.02 s" in response.problem["detail"]


async def test_a_refused_body_is_answered_so_even_where_a_framework_makes_another_error_of_it() -> None:
    async def hide_error(_: Scope, receive: Receive) -> str:
        try:
            await receive()
        except Exception:
            return "there was an error"
        return "fine"

    headers = [(b"transfer-encoding", b"chunked")]
    response = await make_client(hide_error).send_request("POST", headers, [b"x" * (MIB + 1)])
    assert response.status == 413


async def test_large_bodies_of_all_requests_share_a_bound_and_give_back_what_they_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "_MAX_BODIES", 150_000)
    has_read, may_end = asyncio.Event(), asyncio.Event()

    async def hold_body(scope: Scope, receive: Receive) -> int:
        size = await read_size(scope, receive)
        has_read.set()
        await may_end.wait()
        return size

    headers, large = [(b"content-length", b"100000")], [b"x" * 100_000]
    holding = asyncio.create_task(make_client(hold_body).send_request("POST", headers, large))
    async with asyncio.timeout(5):
        await has_read.wait()
    refused = await make_client(read_size).send_request("POST", headers, large)
    assert refused.status == 503
    assert refused.headers["retry-after"] == "2"
    assert (await make_client(read_size).send_request("POST", [(b"content-length", b"9")], [b"x" * 9])).status == 200
    may_end.set()
    assert (await holding).status == 200
    assert RequestBody.total_buffered_bytes == 0


async def test_an_application_within_another_bounds_no_body_again() -> None:
    inner = make_client(read_size).app
    response = await Client(RequestMiddleware(inner, "gateway", KEY)).send_request(
        "POST", [(b"content-length", b"100000")], [b"x" * 100_000]
    )
    assert json.loads(response.body) == 100_000
    assert RequestBody.total_buffered_bytes == 0
