"""What is too much for a service waits for its turn or is refused; nothing else suffers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest
from prometheus_client import REGISTRY

from caravan.errors import TooManyRequests
from caravan.runtime import Backends
from services.gateway.routing.request_slots import MIN_LIMIT, RequestSlots
from services.gateway.settings import Settings
from tests.services.gateway.forwarding_case import ForwardingCase
from tests.services.gateway.stand_ins import Pets, listening, registered
from tests.support.shop import run_services, wait_until

WORKING, WAITING = 3, 2


class SlowPets(Pets):
    """Works on a request until it is released."""

    working = most_working = 0

    async def work(self) -> None:
        self.working += 1
        self.most_working = max(self.most_working, self.working)
        await self.released.wait()
        self.working -= 1


@pytest.fixture(params=["in this process", "in another process"])
async def case(
    request: pytest.FixtureRequest, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[ForwardingCase]:
    monkeypatch.setenv("GATEWAY_MAX_REQUESTS_PER_SERVICE", str(WORKING))
    monkeypatch.setenv("GATEWAY_MAX_WAITING_PER_SERVICE", str(WAITING))
    monkeypatch.setenv("GATEWAY_WAITING_SECONDS", "30")
    slow, quick = SlowPets("snails"), Pets("hares")
    slow.router.add_api_route("/v1/snails/rex/work", slow.work, methods=["POST"])
    is_here = request.param == "in this process"
    async with contextlib.AsyncExitStack() as stack:
        services = (slow.here(), quick.here()) if is_here else (quick.here(),)
        shop = await stack.enter_async_context(run_services(backends, "gateway", extra_services=services))
        if not is_here:
            await stack.enter_async_context(registered(shop, slow, backends))
        url = await stack.enter_async_context(listening(shop.process.app))
        http = httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False, limits=httpx2.Limits(max_connections=None))
        yield ForwardingCase(shop, slow, await stack.enter_async_context(http))
        slow.released.set()


def read_metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"caravan_gateway_{name}", {"target": "snails"}) or 0.0


async def _ask(case: ForwardingCase, count: int) -> list[asyncio.Task[httpx2.Response]]:
    """So many requests that the service works on, or that wait for it."""
    tasks = [asyncio.create_task(case.client.post("/v1/snails/rex/work")) for _ in range(count)]

    async def are_under_way() -> bool:
        return read_metric("requests_under_way") + read_metric("requests_waiting") == count

    await wait_until(are_under_way)
    return tasks


async def _answer(case: ForwardingCase, tasks: Sequence[asyncio.Task[httpx2.Response]]) -> list[int]:
    case.pets.released.set()
    return [answer.status_code for answer in await asyncio.gather(*tasks)]


async def test_what_is_too_much_is_refused_and_what_waits_is_answered(case: ForwardingCase) -> None:
    shed_before = read_metric("shed_total")
    tasks = await _ask(case, WORKING + WAITING)
    extra = [asyncio.create_task(case.client.post("/v1/snails/rex/work")) for _ in range(4)]

    async def are_refused() -> bool:
        return all(task.done() for task in extra)

    await wait_until(are_refused, seconds=10)
    refused = [task.result() for task in extra]
    assert [answer.status_code for answer in refused] == [429] * 4
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert "snails has more requests than it can answer" in refused[0].json()["detail"]
    assert read_metric("shed_total") - shed_before == 4
    assert (read_metric("requests_under_way"), read_metric("requests_waiting")) == (WORKING, WAITING)
    assert await _answer(case, tasks) == [200] * (WORKING + WAITING)
    assert isinstance(case.pets, SlowPets)
    assert case.pets.most_working == WORKING
    assert (await case.client.get("/v1/snails/rex")).status_code == 200


async def test_other_services_the_gateways_own_pages_and_probes_are_answered_meanwhile(case: ForwardingCase) -> None:
    tasks = await _ask(case, WORKING + WAITING)
    for path in ("/v1/hares/rex", "/livez", "/readyz", "/metrics", "/docs"):
        assert (await case.client.get(path)).status_code == 200, path
    await _answer(case, tasks)


async def test_a_client_that_is_slow_to_send_its_request_takes_no_slot(case: ForwardingCase) -> None:
    host = case.client.base_url
    writers = []
    for _ in range(WORKING + WAITING):
        _, writer = await asyncio.open_connection(host.host, host.port)
        writer.write(b"POST /v1/snails/rex/work HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf")
        writers.append(writer)
    tasks = await _ask(case, WORKING)
    assert await _answer(case, tasks) == [200] * WORKING
    for writer in writers:
        writer.close()


def make_slots(**settings: float) -> RequestSlots:
    return RequestSlots("turtles", Settings.model_validate(settings))


async def count_free(slots: RequestSlots) -> int:
    """How many may be worked on at a time."""
    taken: list[float] = []
    with contextlib.suppress(TooManyRequests):
        while True:
            taken.append(await slots.acquire())
    for acquired_at in taken:
        slots.release(acquired_at)
    return len(taken)


async def test_answers_that_are_late_for_the_same_reason_lower_the_limit_once_and_those_in_time_raise_it() -> None:
    slots = make_slots(max_requests_per_service=40, max_waiting_per_service=0)
    taken = [await slots.acquire() for _ in range(20)]
    for acquired_at in taken:
        slots.release(acquired_at - 60)
    assert await count_free(slots) == 30
    for _ in range(400):
        await count_free(slots)
    assert await count_free(slots) == 40


async def test_a_service_whose_answers_are_all_late_is_given_a_few_requests_still() -> None:
    slots = make_slots(max_requests_per_service=40, max_waiting_per_service=0, target_seconds=1e-9)
    for _ in range(50):
        slots.release(await slots.acquire(), is_slow=True)
    assert slots.limit == 40, "what is slow by nature says nothing"
    for _ in range(50):
        slots.release(await slots.acquire())
    assert await count_free(slots) == MIN_LIMIT


async def test_who_has_waited_too_long_is_refused_and_leaves_no_gap() -> None:
    slots = make_slots(max_requests_per_service=1, waiting_seconds=0.05)
    acquired_at = await slots.acquire()
    with pytest.raises(TooManyRequests):
        await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    slots.release(acquired_at)
    slots.release(await waiting[1])
    assert await count_free(make_slots(max_requests_per_service=1, max_waiting_per_service=0)) == 1
    slots.release(await slots.acquire())


async def test_a_slot_that_comes_to_somebody_who_leaves_in_that_moment_goes_on() -> None:
    slots = make_slots(max_requests_per_service=1, waiting_seconds=30)
    acquired_at = await slots.acquire()
    first, second = (asyncio.create_task(slots.acquire()) for _ in range(2))
    await asyncio.sleep(0)
    slots.release(acquired_at)
    first.cancel()
    assert await asyncio.wait_for(second, 5) > 0


@pytest.mark.parametrize(
    ("burst_seconds", "overload_seconds", "served"),
    [
        pytest.param(300, 1e-9, 5, id="a burst waits for its turn"),
        pytest.param(1e-9, 30, 5, id="in an overload, who has not waited long is served"),
        pytest.param(1e-9, 1e-9, 0, id="in an overload, who has waited too long is refused"),
    ],
)
async def test_a_burst_is_worth_its_wait_and_an_overload_is_not(
    burst_seconds: float, overload_seconds: float, served: int
) -> None:
    slots = make_slots(
        max_requests_per_service=1, burst_seconds=burst_seconds, overload_seconds=overload_seconds, waiting_seconds=30
    )
    acquired_at = await slots.acquire()
    waiting = [asyncio.create_task(slots.acquire()) for _ in range(5)]
    await asyncio.sleep(0)
    slots.release(acquired_at)
    seen = 0
    for task in waiting:
        with contextlib.suppress(TooManyRequests):
            slots.release(await asyncio.wait_for(task, 5))
            seen += 1
    assert seen == served
    slots.release(await asyncio.wait_for(slots.acquire(), 5))  # nothing waits, so it is no overload any more
