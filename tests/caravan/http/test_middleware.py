"""What happens for every request: its ids, its context, its bounded body, and a problem instead of a stack trace."""

import asyncio
import json
from typing import Any

import pytest

from caravan import telemetry
from caravan.client import authorization, deadline
from caravan.errors import Forbidden, NotFound, Unauthorized
from caravan.http import FORWARDER_HEADER, SECONDS_HEADER, RequestMiddleware
from caravan.http.middleware import Receive, Scope, Send, is_task_exit
from caravan.refusals import Refusal, RefusalRecorder
from tests.caravan.http.asgi_client import (
    KEY,
    Client,
    act_with,
    make_client,
    raise_on_call,
    show_client,
)
from tests.support.spans import collect_spans, get_id


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [(b"request-1", True), (b"", False), (b"x" * 129, False), (b"a\nb", False), ("é".encode(), False)],
)
async def test_a_sound_request_id_is_kept_and_any_other_replaced(given: bytes, is_kept: bool) -> None:
    client = make_client(act_with(lambda _: telemetry.request_id.get()))
    response = await client.send_request(headers=[(b"x-request-id", given)])
    request_id = response.headers["x-request-id"]
    assert json.loads(response.body) == request_id
    assert (request_id == given.decode()) is is_kept
    assert request_id


async def test_a_request_is_in_the_trace_that_it_names_else_in_a_new_one() -> None:
    telemetry.traceparent.set(None)
    client = make_client(act_with(lambda _: telemetry.get_trace_id()))
    named = await client.send_request(headers=[(b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")])
    assert json.loads(named.body) == "a" * 32
    traces = {(await client.send_request(headers=[(b"traceparent", b"nonsense")])).body for _ in range(2)}
    assert len(traces) == 2


async def test_nothing_of_one_request_is_left_for_the_next() -> None:
    telemetry.actor.set("somebody")
    client = make_client(act_with(lambda _: [authorization.get(), telemetry.actor.get(), telemetry.service_name.get()]))
    assert json.loads((await client.send_request(headers=[(b"authorization", b"Bearer x")])).body)[0] == "Bearer x"
    assert json.loads((await client.send_request()).body) == [None, None, "pets"]


@pytest.mark.parametrize("name", [b"authorization", b"host", b"idempotency-key", b"content-length"])
async def test_a_header_that_counts_once_is_refused_when_it_comes_twice(name: bytes) -> None:
    client = make_client(act_with(lambda _: "never"))
    response = await client.send_request(headers=[(name, b"1"), (name, b"1")])
    assert response.status == 400
    assert name.decode() in response.problem["detail"]
    assert (await client.send_request(headers=[(b"x-any", b"1"), (b"x-any", b"2")])).status == 200


@pytest.mark.parametrize(
    ("key", "address", "has_deadline"), [(KEY, "203.0.113.7", True), (b"guess", "10.0.0.9", False)]
)
async def test_only_the_gateways_key_makes_the_address_and_the_deadline_believed(
    key: bytes, address: str, has_deadline: bool
) -> None:
    deadline.set(None)
    client = make_client(act_with(lambda scope: [show_client(scope), deadline.get() is not None]))
    headers = [(FORWARDER_HEADER, key), (b"x-forwarded-for", b"203.0.113.7"), (SECONDS_HEADER, b"2.5")]
    assert json.loads((await client.send_request(headers=headers)).body) == [address, has_deadline]


async def test_without_a_key_of_its_own_a_service_believes_nobody() -> None:
    async def app(scope: Scope, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": show_client(scope).encode()})

    response = await Client(RequestMiddleware(app, "pets")).send_request(
        headers=[(FORWARDER_HEADER, b""), (b"x-forwarded-for", b"203.0.113.7")]
    )
    assert response.body == b"10.0.0.9"


@pytest.mark.parametrize(
    ("method", "headers", "content", "cached"),
    [
        ("GET", [], "public", None),
        ("GET", [(b"authorization", b"x")], "private", "no-store"),
        ("POST", [], "public", "no-store"),
        ("POST", [], "cacheable", "max-age=60"),
    ],
)
async def test_only_what_is_public_may_be_cached_unless_the_route_says_so(
    method: str, headers: list[tuple[bytes, bytes]], content: str, cached: str | None
) -> None:
    response = await make_client(act_with(lambda _: content)).send_request(method, headers)
    assert response.headers.get("cache-control") == cached
    assert response.headers["x-content-type-options"] == "nosniff"


async def test_a_refusal_and_an_accident_are_problems_that_no_cache_keeps() -> None:
    for error, status in ((NotFound("no such pet"), 404), (KeyError("inner words"), 500)):
        response = await make_client(raise_on_call(error)).send_request()
        assert (response.status, response.problem["status"]) == (status, status)
        assert response.headers["cache-control"] == "no-store"
        assert b"inner words" not in response.body


async def test_an_accident_after_the_answer_has_begun_is_raised() -> None:
    """The server then closes the connection, so that nobody takes the half for the whole."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise KeyError("late")

    client = Client(RequestMiddleware(app, "pets"))
    with pytest.raises(KeyError, match="late"):
        await client.send_request()
    assert [message["type"] for message in client.sent] == ["http.response.start"]


async def test_only_a_cancellation_of_the_task_itself_ends_it() -> None:
    assert not is_task_exit(asyncio.CancelledError())
    response = await make_client(raise_on_call(asyncio.CancelledError())).send_request()
    assert response.status == 500
    has_begun = asyncio.Event()

    async def wait_forever(_: Scope, __: Receive) -> None:
        has_begun.set()
        await asyncio.Event().wait()

    answering = asyncio.create_task(make_client(wait_forever).send_request())
    await has_begun.wait()
    answering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answering


async def collect_refusals(error: Exception, headers: list[tuple[bytes, bytes]]) -> list[Refusal]:
    refusals: list[Refusal] = []

    async def write(items: list[Refusal]) -> None:
        refusals.extend(items)

    recorder = RefusalRecorder(write)
    await make_client(raise_on_call(error), refused=recorder).send_request(headers=headers)
    await recorder.send_report()
    return refusals


async def test_who_is_refused_for_want_of_a_right_is_recorded_once_by_whom_it_met_first() -> None:
    (refusal,) = await collect_refusals(Forbidden("this is for staff"), [])
    assert (refusal.status, refusal.actor, refusal.operation, refusal.reason) == (
        403,
        "anonymous",
        "GET unmatched",
        "this is for staff",
    )
    assert len(await collect_refusals(Unauthorized("no token"), [])) == 1
    assert await collect_refusals(NotFound("no such pet"), []) == []
    assert await collect_refusals(Forbidden("this is for staff"), [(FORWARDER_HEADER, KEY)]) == []


async def test_what_is_no_http_is_passed_on_untouched() -> None:
    seen: list[str] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.append(scope["type"])

    async def nothing(*_: Any) -> Any: ...

    await RequestMiddleware(app, "pets")({"type": "lifespan"}, nothing, nothing)
    assert seen == ["lifespan"]


async def test_a_gateway_and_a_service_in_one_process_share_a_span() -> None:
    contexts = []

    async def app(_: Scope, __: Receive, send: Send) -> None:
        contexts.append((telemetry.traceparent.get(), telemetry.service_name.get()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    service = RequestMiddleware(app, "pets")

    async def forward(scope: Scope, receive: Receive, send: Send) -> None:
        await service({**scope}, receive, send)

    with collect_spans() as spans:
        await Client(RequestMiddleware(forward, "gateway")).send_request()
    (span,) = spans.all
    ids = get_id(span)
    assert contexts == [(f"00-{ids}-01", "pets")]
    assert span.service == "gateway"
    assert span.attributes["http.response.status_code"] == 200
