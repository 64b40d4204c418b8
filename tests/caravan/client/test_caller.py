"""A call of another service: within its deadline, behind its breaker, again where that can do no harm, and with the
fault at whom it belongs.
"""

import asyncio
from typing import Any

import httpx2
import pytest

from caravan import telemetry
from caravan.client import MAX_ENDPOINTS, Operation, OperationClient, authorization, caller, deadline
from caravan.errors import DeadlineExceeded, NotFound, Problem, ServiceUnavailable
from caravan.fault_attribution import DEPENDENCY
from tests.caravan.client.caller_case import (
    ASK,
    CHANGE,
    QUESTION,
    Answer,
    Endpoints,
    Question,
    Serve,
    answer_well,
    answer_with,
    raise_error,
    serve_remote,
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two attempts lies next to no time."""
    monkeypatch.setattr(caller, "BACKOFF_SECONDS", 0.0001)


async def test_in_one_process_the_use_case_itself_is_called() -> None:
    async def answer(question: Question) -> Answer:
        return Answer(text=question.text)

    async with serve_remote(raise_error(AssertionError("no request")), local={ASK: answer}) as remote:
        assert await remote.call(ASK, QUESTION) == Answer(text="why")


async def test_a_request_carries_who_asks_in_whose_name_for_how_long_and_in_which_trace() -> None:
    authorization.set("Bearer of a user")
    telemetry.request_id.set("request-1")
    telemetry.traceparent.set(f"00-{'1' * 32}-{'2' * 16}-01")
    async with serve_remote(answer_well) as remote:
        assert await remote.call(ASK, QUESTION) == Answer(text="because")
    (request,) = remote.requests
    assert str(request.url) == "http://pets-0/internal/pets/ask"
    assert request.content == b'{"text":"why"}'
    assert request.headers["authorization"] == "cats to pets"
    assert request.headers["x-user-authorization"] == "Bearer of a user"
    assert request.headers["x-request-id"] == "request-1"
    assert request.headers["traceparent"] == f"00-{'1' * 32}-{'2' * 16}-01"
    assert 2.0 < float(request.headers["x-caravan-seconds"]) <= ASK.seconds


async def hang(_: Any) -> Any:
    await asyncio.Event().wait()


async def test_a_call_ends_at_its_own_deadline_or_at_its_callers_if_that_is_earlier() -> None:
    loop, brief = asyncio.get_running_loop(), Operation("pets", "brief", Question, Answer, seconds=0.02)
    for operation, allowed in ((brief, None), (ASK, 0.02), (ASK, -1.0)):
        deadline.set(allowed and loop.time() + allowed)
        async with asyncio.timeout(2), serve_remote(answer_well, local={operation: hang}) as remote:
            with pytest.raises(DeadlineExceeded, match=f"pets did not answer {operation.name} within 0") as error:
                await remote.call(operation, QUESTION)
            assert error.value.fault == DEPENDENCY


@pytest.mark.parametrize(("allowed", "state"), [(None, "open"), (0.01, "closed")])
async def test_silence_counts_against_a_service_unless_it_was_given_hardly_any_time(
    allowed: float | None, state: str
) -> None:
    brief = Operation("pets", "brief", Question, Answer, seconds=0.02)
    async with serve_remote(answer_well, local={brief: hang}) as remote:
        for _ in range(5):
            deadline.set(allowed and asyncio.get_running_loop().time() + allowed)
            with pytest.raises(DeadlineExceeded):
                await remote.call(brief, QUESTION)
        assert remote.call.get_breaker("pets").state == state


async def test_a_service_that_fails_is_not_asked_any_more_for_a_while() -> None:
    async with serve_remote(answer_with(503)) as remote:
        for _ in range(5):
            with pytest.raises(ServiceUnavailable, match="the reason"):
                await remote.call(CHANGE, QUESTION)
        asked = len(remote.requests)
        with pytest.raises(ServiceUnavailable, match="pets is failing") as error:
            await remote.call(CHANGE, QUESTION)
        assert len(remote.requests) == asked == 5
        assert error.value.headers["Retry-After"] == "5"


@pytest.mark.parametrize(
    ("status", "headers", "problem", "fault"),
    [
        (404, {}, NotFound, ""),
        (500, {}, ServiceUnavailable, DEPENDENCY),
        (503, {"x-caravan-fault": "dependency"}, ServiceUnavailable, DEPENDENCY),
        (504, {"x-caravan-fault": "unknown"}, DeadlineExceeded, DEPENDENCY),
    ],
)
async def test_what_a_client_or_a_dependency_provokes_is_passed_on_and_opens_no_breaker(
    status: int, headers: dict[str, str], problem: type[Problem], fault: str
) -> None:
    async with serve_remote(answer_with(status, **headers)) as remote:
        for _ in range(10):
            with pytest.raises(problem, match="the reason") as error:
                await remote.call(CHANGE, QUESTION)
            assert error.value.fault == fault
        assert remote.call.get_breaker("pets").state == "closed"


RESET = raise_error(httpx2.ReadError("reset"))


@pytest.mark.parametrize(
    ("serve", "operation", "requests"),
    [
        (answer_with(503), ASK, caller.ATTEMPTS),
        (answer_with(503), CHANGE, 1),
        # A connection that broke is first answered by moving on, here to the only endpoint that there is.
        (RESET, ASK, caller.ATTEMPTS + 1),
        (RESET, CHANGE, 1),
    ],
    ids=["503 read", "503 write", "reset read", "reset write"],
)
async def test_only_what_may_be_repeated_is_tried_again(
    serve: Serve, operation: Operation[Any, Any], requests: int
) -> None:
    async with serve_remote(serve) as remote:
        with pytest.raises(ServiceUnavailable):
            await remote.call(operation, QUESTION)
    assert len(remote.requests) == requests


async def test_a_retry_that_is_answered_is_the_answer() -> None:
    responses = [answer_with(503), raise_error(httpx2.ReadError("reset")), answer_well]

    def serve_next(request: httpx2.Request) -> httpx2.Response:
        return responses.pop(0)(request)

    async with serve_remote(serve_next) as remote:
        assert await remote.call(ASK, QUESTION) == Answer(text="because")
        assert remote.call.get_breaker("pets").state == "closed"


async def test_what_reached_nobody_goes_to_other_endpoints_whatever_it_is_up_to_a_bound() -> None:
    async with serve_remote(raise_error(httpx2.ConnectError("refused")), endpoints=MAX_ENDPOINTS + 3) as remote:
        with pytest.raises(ServiceUnavailable, match="can't be reached"):
            await remote.call(CHANGE, QUESTION)
    first_urls = [str(request.url) for request in remote.requests[:MAX_ENDPOINTS]]
    assert len(set(first_urls)) == MAX_ENDPOINTS
    assert len(remote.requests) <= MAX_ENDPOINTS + caller.ATTEMPTS


async def test_an_endpoint_that_answers_is_found_behind_those_that_are_gone() -> None:
    def serve(request: httpx2.Request) -> httpx2.Response:
        if request.url.host != "pets-3":
            raise httpx2.ConnectError("refused")
        return answer_well(request)

    async with serve_remote(serve, endpoints=4) as remote:
        for _ in range(10):
            assert await remote.call(CHANGE, QUESTION) == Answer(text="because")


async def test_a_write_whose_connection_broke_is_not_sent_again_to_another_endpoint() -> None:
    async with serve_remote(raise_error(httpx2.ReadError("reset")), endpoints=3) as remote:
        with pytest.raises(ServiceUnavailable):
            await remote.call(CHANGE, QUESTION)
    assert len(remote.requests) == 1


async def test_retries_add_no_more_than_a_fifth_to_a_load_that_fails() -> None:
    calls = 100
    async with serve_remote(answer_with(503, **{"x-caravan-fault": "dependency"})) as remote:
        for _ in range(calls):
            with pytest.raises(ServiceUnavailable):
                await remote.call(ASK, QUESTION)
    assert calls < len(remote.requests) <= calls * 1.2 + 3


async def test_errors_of_the_client_library_blame_nobody() -> None:
    async with serve_remote(raise_error(httpx2.PoolTimeout("no connection is free"))) as remote:
        for _ in range(10):
            with pytest.raises(ServiceUnavailable) as error:
                await remote.call(CHANGE, QUESTION)
        assert error.value.fault == DEPENDENCY
        assert remote.call.get_breaker("pets").state == "closed"


async def test_a_caller_that_goes_away_frees_the_endpoint_and_blames_nobody() -> None:
    has_begun = asyncio.Event()

    async def hang_remote(_: httpx2.Request) -> httpx2.Response:
        has_begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    discovery = Endpoints(1)
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(hang_remote)) as http:
        call = OperationClient("cats", {}, discovery, http, lambda *_: "")
        for _ in range(10):
            has_begun.clear()
            asking = asyncio.create_task(call(ASK, QUESTION))
            await has_begun.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
        (endpoint,) = discovery.pool._endpoints.values()
        assert (endpoint.in_flight, endpoint.breaker.state, call.get_breaker("pets").state) == (0, "closed", "closed")
