"""A fault is booked to the side that has it: what clients provoke, and what a dependency or a bound of ours causes,
takes a service from nobody.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan import fault_attribution
from caravan.discovery import Breaker
from caravan.errors import CapacityExceeded, Problem, ServiceUnavailable
from caravan.runtime import Backends
from services.gateway.settings import Settings
from tests.services.gateway.forwarding_case import ForwardingCase
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import run_services

COUNT = 12


async def provoke(kind: str) -> None:
    if kind == "bug":
        raise KeyError("a bug that one request meets")
    if kind == "busy":
        raise CapacityExceeded("a bound that clients reach")
    raise ServiceUnavailable("another service is away", fault=kind)


@pytest.fixture(scope="module")
async def remote(backends: Backends) -> AsyncIterator[ForwardingCase]:
    pets = Pets()
    pets.router.add_api_route("/v1/pets/{kind}/provoked", provoke)
    async with (
        run_services(backends, "gateway") as shop,
        registered(shop, pets, backends),
        listening(shop.process.app) as url,
        httpx2.AsyncClient(base_url=url, timeout=15, trust_env=False) as client,
    ):
        yield ForwardingCase(shop, pets, client)


async def _sound(case: ForwardingCase) -> None:
    assert case.shop.get_context("gateway").call.get_breaker("pets").state == "closed"
    answers = await asyncio.gather(*(case.client.get("/v1/pets/rex") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}


async def _talk(case: ForwardingCase, raw: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(case.client.base_url.host, case.client.base_url.port)
    writer.write(raw)
    return reader, writer


@pytest.mark.parametrize("head", [b"content-length: 50\r\n\r\nx", b"transfer-encoding: chunked\r\n\r\n1\r\nx\r\n"])
async def test_bodies_that_stall_are_answered_408_and_take_the_service_from_nobody(
    remote: ForwardingCase, monkeypatch: pytest.MonkeyPatch, head: bytes
) -> None:
    monkeypatch.setattr("caravan.http.middleware.BODY_SECONDS", 0.5)
    stalled = [await _talk(remote, b"POST /v1/pets HTTP/1.1\r\nhost: x\r\n" + head) for _ in range(COUNT)]
    await _sound(remote)
    for reader, writer in stalled:
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 408 ") and b"application/problem+json" in answer, answer[:200]
        writer.close()
    await _sound(remote)


async def test_clients_that_leave_amid_their_bodies_take_the_service_from_nobody(remote: ForwardingCase) -> None:
    for _ in range(COUNT):
        _, writer = await _talk(remote, b"POST /v1/pets HTTP/1.1\r\nhost: x\r\ncontent-length: 50\r\n\r\nx")
        await writer.drain()
        writer.transport.abort()
    await _sound(remote)


@pytest.mark.parametrize(
    ("kind", "status"),
    [("bug", 500), (fault_attribution.DEPENDENCY, 503), (fault_attribution.UNKNOWN, 503), ("busy", 503)],
)
async def test_answers_that_a_client_or_a_dependency_provokes_open_no_breaker(
    remote: ForwardingCase, kind: str, status: int
) -> None:
    for _ in range(COUNT):
        answer = await remote.client.get(f"/v1/pets/{kind}/provoked")
        assert answer.status_code == status
        assert fault_attribution.FAULT_HEADER not in answer.headers
    await _sound(remote)


async def test_a_header_that_cannot_be_passed_on_is_the_clients_fault(remote: ForwardingCase) -> None:
    for _ in range(COUNT):
        reader, writer = await _talk(
            remote, b"GET /v1/pets/rex HTTP/1.1\r\nhost: x\r\nx-odd: a\x0cb\r\nconnection: close\r\n\r\n"
        )
        assert (await reader.readline()).split()[1] in (b"200", b"400")
        writer.close()
    await _sound(remote)


async def test_reads_that_hang_while_others_are_answered_are_503_and_open_no_breaker(
    remote: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = remote.shop.get_context("gateway")
    monkeypatch.setattr(gateway, "settings", Settings(read_timeout_seconds=0.3))
    stop = asyncio.Event()

    async def read_on() -> None:
        while not stop.is_set():
            assert (await remote.client.get("/v1/pets/rex")).status_code == 200

    reading = asyncio.create_task(read_on())
    hanging = await asyncio.gather(*(remote.client.get("/v1/pets/rex/sleep") for _ in range(COUNT)))
    stop.set()
    await reading
    assert {(answer.status_code, "retry-after" in answer.headers) for answer in hanging} == {(503, True)}
    await _sound(remote)


async def test_a_service_that_answers_nobody_opens_its_breaker(
    remote: ForwardingCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = remote.shop.get_context("gateway")
    monkeypatch.setattr(gateway, "settings", Settings(read_timeout_seconds=0.1))
    breaker = gateway.call.get_breaker("pets")
    with contextlib.ExitStack() as stack:
        stack.callback(breaker.record_success)
        stack.callback(setattr, breaker, "state", "closed")
        for _ in range(breaker.consecutive):
            assert (await remote.client.get("/v1/pets/rex/sleep")).status_code == 503
        assert breaker.state == "open"


@given(
    st.integers(100, 599),
    st.sampled_from(["", fault_attribution.DEPENDENCY, fault_attribution.UNKNOWN, "something new"]),
)
def test_only_the_services_own_502_503_and_504_count_as_answers(status: int, fault: str) -> None:
    assert (fault_attribution.has_failed(status, fault) is True) == (status in (502, 503, 504) and not fault)


@given(st.lists(st.sampled_from([False, None]), max_size=60))
def test_no_mixture_of_other_ends_opens_a_breaker(ends: list[bool | None]) -> None:
    breaker = Breaker(lambda: 100.0)
    for end in ends:
        assert breaker.allow_call()
        breaker.record_outcome(end)
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (httpx2.ConnectError(""), True),
        (httpx2.ReadError(""), True),
        (httpx2.RemoteProtocolError(""), True),
        (httpx2.ReadTimeout(""), True),
        (httpx2.PoolTimeout(""), None),
        (httpx2.LocalProtocolError(""), None),
        (asyncio.CancelledError(), None),
        (ServiceUnavailable(""), True),
        (Problem(""), False),
    ],
)
def test_of_errors_only_those_of_the_connection_count(error: BaseException, failed: bool | None) -> None:
    assert fault_attribution.has_failed_with(error) is failed
