"""Live streams are bounded for each caller, each address and in all, take nothing from requests, and end with the
session.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from caravan.auth import Caller
from caravan.clock import new_id
from caravan.runtime import Backends
from caravan.service import Service
from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from tests.services.gateway.forwarding_case import ForwardingCase
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import run_services, wait_until


def _pets(name: str) -> Pets:
    pets = Pets(name)
    declared: dict[int | str, dict[str, Any]] = {200: {"content": {"text/event-stream": {}}, "description": "events"}}
    pets.router.add_api_route(f"/v1/{name}/{{name}}/live", pets.sing, responses=declared, name="live")
    return pets


@pytest.fixture(scope="module", params=["in this process", "in another process"])
async def case(request: pytest.FixtureRequest, backends: Backends) -> AsyncIterator[ForwardingCase]:
    pets = _pets("cats" if request.param == "in this process" else "dogs")
    async with contextlib.AsyncExitStack() as stack:
        extra: tuple[Service, ...] = (pets.here(),) if pets.name == "cats" else ()
        shop = await stack.enter_async_context(run_services(backends, "gateway", extra_services=extra))
        if not extra:
            await stack.enter_async_context(registered(shop, pets, backends))
        url = await stack.enter_async_context(listening(shop.process.app))
        limits = httpx2.Limits(max_connections=None)
        yield ForwardingCase(
            shop,
            pets,
            await stack.enter_async_context(
                httpx2.AsyncClient(base_url=url, timeout=15, trust_env=False, limits=limits)
            ),
        )


async def _bound(case: ForwardingCase, monkeypatch: pytest.MonkeyPatch, **settings: object) -> None:
    """These settings, for the gateway and for those to other processes anew."""
    parts = case.shop.get_context("gateway").resources
    made = Settings.model_validate(settings)
    monkeypatch.setattr(parts, "streams", LiveStreams(made, parts.sessions))
    monkeypatch.setattr(case.shop.get_context("gateway"), "settings", made)
    await parts.upstreams.close()
    parts.upstreams._clients.clear()
    case.pets.reset()


@contextlib.asynccontextmanager
async def _open(case: ForwardingCase, count: int, *headers: dict[str, str]) -> AsyncIterator[list[int]]:
    """The statuses of so many streams, held open."""
    async with contextlib.AsyncExitStack() as stack:
        path = f"/v1/{case.pets.name}/rex/live"
        asked = [
            stack.enter_async_context(
                case.client.stream("GET", path, headers=(headers or ({},))[n % len(headers or (1,))])
            )
            for n in range(count)
        ]
        yield [answer.status_code for answer in [await ask for ask in asked]]
        case.pets.released.set()


async def test_streams_are_bounded_for_each_address_and_leave_requests_alone(
    case: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _bound(case, monkeypatch, max_streams_per_address=5, max_connections_per_service=3, max_streams=10)
    async with _open(case, 60) as statuses:
        assert statuses.count(200) == 5
        assert statuses.count(429) == 55
        began = time.monotonic()
        others = await asyncio.gather(*(case.client.get(f"/v1/{case.pets.name}/rex") for _ in range(20)))
        assert {answer.status_code for answer in others} == {200}
        assert time.monotonic() - began < 5

    async def free() -> bool:
        return not case.shop.get_context("gateway").resources.streams.open_streams

    await wait_until(free)
    async with _open(case, 5) as statuses:
        assert statuses == [200] * 5, "places are given back"


async def test_streams_are_bounded_for_each_caller(case: ForwardingCase, monkeypatch: pytest.MonkeyPatch) -> None:
    await _bound(case, monkeypatch, max_streams_per_caller=2, max_streams_per_address=50)
    one, other = case.shop.issue_headers(), case.shop.issue_headers()
    async with _open(case, 8, one, other) as statuses:
        assert statuses.count(200) == 4
        assert statuses.count(429) == 4


async def test_streams_are_bounded_in_all(case: ForwardingCase, monkeypatch: pytest.MonkeyPatch) -> None:
    await _bound(case, monkeypatch, max_streams=3, max_streams_per_address=50)
    async with _open(case, 6) as statuses:
        assert statuses.count(200) == 3
        assert statuses.count(503) == 3
        assert case.shop.get_context("gateway").call.get_breaker(case.pets.name).state == "closed"


async def test_a_stream_ends_with_the_session_and_with_the_token(
    case: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _bound(case, monkeypatch)
    monkeypatch.setattr("services.gateway.streams.CHECK_SECONDS", 0.05)
    sessions = case.shop.get_context("gateway").resources.sessions
    for end in (True, False):
        # An end of two seconds ago is within the leeway for clocks that differ.
        token = case.shop.issuer.issue_token("customer", new_id(), exp=int(time.time()) + (600 if end else -2))
        header = {"authorization": f"Bearer {token}"}
        async with case.client.stream("GET", f"/v1/{case.pets.name}/rex/live", headers=header) as answer:
            parts = answer.aiter_raw()
            assert await anext(parts) == b"first"
            if end:
                for session in sessions._sessions.values():
                    session.is_active, session.expires_at = False, float("inf")
            async with asyncio.timeout(10):
                assert [part async for part in parts] == [], "it ends, as a whole answer does"
        await asyncio.wait_for(case.pets.left.wait(), 5)
        sessions._sessions.clear()


async def test_who_asks_counts_once_for_the_address_too() -> None:
    streams = LiveStreams(Settings(max_streams_per_address=1), None)  # type: ignore[arg-type]
    caller = Caller(str(new_id()), "customer", "s")
    with streams.reserve_slot(caller, "10.0.0.1"), streams.reserve_slot(caller, "10.0.0.2"):
        assert streams.open_streams == 2
    assert not streams._open_by_key
    assert not streams.open_streams
