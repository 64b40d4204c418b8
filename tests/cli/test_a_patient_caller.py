"""The commands' caller waits out a busy or absent shop, renews its tokens, and gives up with a message."""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx2
import pytest

from cli.api_client import ApiClient, ApiError, ApiUnavailable

Answer = httpx2.Response | Exception


def shop(
    answers: Iterable[Answer], *, max_wait_seconds: float = 5.0, expires_in: float = 600
) -> tuple[ApiClient, list[httpx2.Request], list[str]]:
    """A caller of a shop that gives these answers; the requests that it got, apart from those for tokens, and the notes
    that it printed.
    """
    seen: list[httpx2.Request] = []
    notes: list[str] = []
    rest: Iterator[Answer] = iter(answers)
    tokens = iter(range(1, 100))

    def handle(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/auth/token":
            form = dict(pair.split("=", 1) for pair in request.content.decode().split("&"))
            who = form.get("requested_subject", "operator").partition("%40")[0]
            return httpx2.Response(200, json={"access_token": f"{who}-{next(tokens)}", "expires_in": expires_in})
        seen.append(request)
        answer = next(rest)
        if isinstance(answer, Exception):
            raise answer
        return answer

    http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="http://shop.test")
    return ApiClient(http, "secret", notes.append, max_wait_seconds), seen, notes


def problem(status: int, **headers: str) -> httpx2.Response:
    return httpx2.Response(
        status,
        json={"type": "x", "detail": "because", "errors": [{"field": "lines", "rule": "too many"}]},
        headers=headers,
    )


OK = httpx2.Response(200, json={"fine": True})


@pytest.mark.parametrize(
    "first",
    [
        lambda: problem(429, **{"retry-after": "0"}),
        lambda: problem(503, **{"retry-after": "0"}),
        lambda: problem(409, **{"retry-after": "0"}),
        lambda: httpx2.ConnectError("no"),
        lambda: httpx2.ReadError("cut off"),
    ],
)
async def test_what_comes_later_is_asked_again_with_the_same_key(first: Callable[[], Answer]) -> None:
    caller, seen, _ = shop([first(), first(), OK])
    assert (
        await caller.send_request("POST", "/v1/orders", body={"a": 1}, key="k", customer="ada@x.example")
    ).json() == {"fine": True}
    assert [request.headers["idempotency-key"] for request in seen] == ["k", "k", "k"]
    assert {request.content for request in seen} == {json.dumps({"a": 1}, separators=(",", ":")).encode()}


async def test_a_refusal_is_not_asked_again_and_says_why() -> None:
    caller, seen, _ = shop([problem(409)])
    with pytest.raises(ApiError, match=r"POST /v1/x: 409 because \(lines: too many\)"):
        await caller.send_request("POST", "/v1/x")
    assert len(seen) == 1


async def test_a_token_that_is_refused_is_renewed_once() -> None:
    caller, seen, _ = shop([problem(401), OK, problem(401), problem(401)])
    await caller.send_request("GET", "/v1/x", customer="ada@x.example")
    first, second = (request.headers["authorization"] for request in seen)
    assert first != second
    assert second.startswith("Bearer ada-")
    with pytest.raises(ApiError, match="401"):
        await caller.send_request("GET", "/v1/x", customer="ada@x.example")


async def test_a_token_is_kept_until_shortly_before_it_ends() -> None:
    caller, seen, _ = shop([OK, OK])
    await caller.fetch_json("/v1/x")
    await caller.fetch_json("/v1/x")
    assert seen[0].headers["authorization"] == seen[1].headers["authorization"] == "Bearer operator-1"
    assert await caller.get_token("ada@x.example") == "ada-2"
    assert await caller.get_token("ada@x.example") == "ada-2"


async def test_a_shop_that_stays_away_ends_the_command_with_what_to_do() -> None:
    caller, _, _ = shop((httpx2.ConnectError("no") for _ in range(1000)), max_wait_seconds=0.05)
    with pytest.raises(ApiUnavailable, match=r"can't be reached .* nothing is done twice"):
        await caller.fetch_json("/v1/x")


async def test_nobody_sends_no_token() -> None:
    caller, seen, _ = shop([OK])
    await caller.send_request("GET", "/v1/products", customer=None)
    assert "authorization" not in seen[0].headers


def test_a_document_of_another_kind_is_quoted() -> None:
    answer: Any = httpx2.Response(418, text="teapot")
    assert str(ApiError("GET", "/", answer)) == "GET /: 418 teapot"
