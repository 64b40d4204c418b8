"""Answers of a management API that mean harm: what they cost, and what of them reaches a status."""

import asyncio
import tracemalloc
import zlib
from typing import Any

import pytest
from aiohttp import web
from caravan_operator.backends.broker import BrokerUnavailable, Refusal
from caravan_operator.reconcile.rabbitmq_call import Call, build_api_path
from caravan_operator.reconcile.rabbitmq_exchange import Exchange
from caravan_operator.reconcile.rabbitmq_queue import Queue
from caravan_operator.status.reasons import Reason

from tests.hostile.management_api import OVERVIEW, Hostile, answer_with, open_rabbit


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", ["{url}/internal/secret-page", "https://elsewhere.test/", "//elsewhere.test/x", "/internal/secret-page"]
)
async def test_a_redirect_is_not_followed_and_the_login_goes_nowhere_else(
    hostile: Hostile, status: int, target: str
) -> None:
    async def redirect_to_secret_page(request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": target.format(url=hostile.url)})

    hostile.answers |= {"/api/overview": redirect_to_secret_page, "/internal/secret-page": OVERVIEW}
    rabbit = await open_rabbit(hostile)
    with pytest.raises(BrokerUnavailable, match="redirects"):
        await rabbit.check_health()
    await rabbit.close()
    assert [asked for _, asked, _ in hostile.asked] == ["/api/overview"]


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        while True:
            await response.write(b'{"a":[' + b" " * 65536)
    except ConnectionError:
        return response


async def _drip(request: web.Request) -> web.StreamResponse:
    """Each byte comes in time, and the answer never."""
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    try:
        while True:
            await response.write(b" ")
            await asyncio.sleep(0.05)
    except ConnectionError:
        return response


async def _bomb(_: web.Request) -> web.Response:
    """200 MiB of spaces, compressed where they are asked for: every process of a run collects this module."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join([*(packer.compress(b" " * (1 << 20)) for _ in range(200)), packer.flush()])
    return web.Response(body=body, content_type="application/json", headers={"Content-Encoding": "gzip"})


NO_LIST = "no list of at most"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_endless, "larger than 33554432 bytes"),
        (_drip, "no answer within 1 s"),
        (answer_with(b"[" * 200_000 + b"]" * 200_000), "no JSON, or too deep"),
        (answer_with(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "no JSON, or too deep"),
        (answer_with(b"[" + b"{}," * 8_000_000 + b"{}]"), "too many values"),
        (answer_with(b"<html>INTERNAL-WORDS</html>"), "no JSON"),
        (answer_with(b'{"items": [], "page_count": 1000000000}'), "more than 1000 pages"),
        (answer_with(b'{"items": [], "page_count": "9"}'), "page_count is no whole number"),
        (answer_with(b'{"items": [], "page_count": 1.5}'), "page_count is no whole number"),
        (answer_with(b'{"items": [], "page_count": true}'), "page_count is no whole number"),
        (answer_with(b'{"items": []}'), "page_count is no whole number"),
        (
            answer_with(
                b'{"items": [{"name": "q", "durable": "INTERNAL-WORDS", "auto_delete": false, "type": "classic"}], '
                b'"page_count": 1}'
            ),
            "durable is neither true nor false",
        ),
        (
            answer_with(
                b'{"items": [{"name": "q", "durable": true, "auto_delete": false, "type": "\\ud800"}], "page_count": 1}'
            ),
            "type is no such text",
        ),
        (answer_with(b'{"items": {"a": 1}, "page_count": 1}'), NO_LIST),
        (answer_with(b'{"items": ["INTERNAL-WORDS"], "page_count": 1}'), "no object where one belongs"),
        (answer_with(b'{"items": [' + b"{}," * 500 + b'{}], "page_count": 1}'), NO_LIST),
        (answer_with(b"[]"), "no object where one belongs"),
        (answer_with(b"null"), "the answer is null"),
        (answer_with(b"\x1f\x8b" + b"0" * 500, **{"Content-Encoding": "gzip"}), "no JSON"),
        (_bomb, "no JSON"),
    ],
)
async def test_no_answer_costs_more_than_its_bound_or_lands_in_a_status(
    hostile: Hostile, answer: Any, message: str
) -> None:
    """More queues than are asked for by name, so the list is read by pages; the policies' list is a good one, so that
    the answer is what fails.
    """
    hostile.answers |= {"/api/queues/%2F": answer, "/api/policies/%2F": []}
    rabbit = await open_rabbit(hostile, requestTimeout="1s" if answer is _drip else "30s")
    tracemalloc.start()
    try:
        with pytest.raises(BrokerUnavailable) as refused:
            await rabbit.read_states(
                "RabbitMQQueue", [Queue("/", "q"), *(Queue("/", f"q{number}") for number in range(30))]
            )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        await rabbit.close()
    assert peak < 200 << 20, f"{peak >> 20} MiB"
    assert refused.value.reason is Reason.UNREACHABLE
    assert message in str(refused.value)
    assert "INTERNAL-WORDS" not in str(refused.value)
    assert len(str(refused.value)) < 300


async def test_the_words_of_a_refusal_stay_out_of_the_status_but_for_our_own(hostile: Hostile) -> None:
    async def no(_: web.Request) -> web.Response:
        return web.json_response({"reason": "INTERNAL-WORDS and arguments"}, status=400)

    hostile.answers |= {"/api/queues/%2F/q": no}
    rabbit = await open_rabbit(hostile)
    (refused,) = await rabbit.apply_actions(
        [(Call("PUT", build_api_path("queues", "/", "q"), "create", {"arguments": {}}),)]
    )
    await rabbit.close()
    assert isinstance(refused, Refusal)
    assert "INTERNAL-WORDS" not in refused.message
    assert "it names arguments" in refused.message


@pytest.mark.parametrize(
    "facts",
    [
        {"cluster_name": "\x1b[31m"},
        {"cluster_name": "a b <c>"},
        {"rabbitmq_version": "9" * 100},
        {"rabbitmq_version": 4},
    ],
)
async def test_what_a_server_says_of_itself_is_taken_only_in_its_form(hostile: Hostile, facts: dict[str, Any]) -> None:
    hostile.answers["/api/overview"] = {**OVERVIEW, **facts}
    rabbit = await open_rabbit(hostile)
    with pytest.raises(BrokerUnavailable):
        await rabbit.check_health()
    await rabbit.close()


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_virtual_host_that_is_refused_fails_alone(hostile: Hostile, status: int) -> None:
    found = {"name": "q", "type": "quorum", "durable": True, "auto_delete": False, "arguments": {}}
    hostile.answers |= {"/api/queues/good": {"items": [found], "page_count": 1}, "/api/queues/bad": status}
    rabbit = await open_rabbit(hostile)
    good, bad = await rabbit.read_states("RabbitMQQueue", [Queue("good", "q"), Queue("bad", "q")])
    await rabbit.close()
    assert good.durable
    assert isinstance(bad, Refusal)
    assert "INTERNAL-WORDS" not in bad.message


async def test_an_exchange_that_is_refused_fails_alone(hostile: Hostile) -> None:
    body = {"type": "topic", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
    hostile.answers |= {"/api/exchanges/%2F/good": body, "/api/exchanges/%2F/bad": 405}
    rabbit = await open_rabbit(hostile)
    good, bad = await rabbit.read_states("RabbitMQExchange", [Exchange("/", "good"), Exchange("/", "bad")])
    await rabbit.close()
    assert good.body == body
    assert isinstance(bad, Refusal)


async def test_a_wrong_password_is_still_reported(hostile: Hostile) -> None:
    hostile.answers |= {"/api/overview": 401, "/api/whoami": 401}
    rabbit = await open_rabbit(hostile)
    with pytest.raises(BrokerUnavailable) as refused:
        await rabbit.check_health()
    await rabbit.close()
    assert refused.value.reason is Reason.CREDENTIALS_REFUSED
