"""The operator against servers and resources that mean harm: what they cost, what they get, and what becomes of the
others meanwhile.
"""

import asyncio
import base64
import gzip
import json
import re
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from aiohttp import web
from caravan_operator.backends import logins
from caravan_operator.backends.broker import BrokerUnavailable, Refusal
from caravan_operator.backends.gateway import GatewayPods
from caravan_operator.backends.rabbitmq import RabbitMQ
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.reconcile import parse_desired
from caravan_operator.reconcile.admission import check_admission, validate_connection
from caravan_operator.reconcile.endpoint_index import Endpoint
from caravan_operator.reconcile.rabbitmq_binding import Binding
from caravan_operator.reconcile.rabbitmq_call import Call, build_api_path
from caravan_operator.reconcile.rabbitmq_exchange import Exchange
from caravan_operator.reconcile.rabbitmq_queue import Queue
from caravan_operator.resources.kinds import SERVERS_ANNOTATION
from caravan_operator.resources.names import UnusableSpec, build_identity
from caravan_operator.status.reasons import Reason
from hypothesis import given
from hypothesis import strategies as st

from tests.operator.resources import make_resource

SECRET = "the-password-of-somebody"
OVERVIEW = {"rabbitmq_version": "4.1.0", "cluster_name": "rabbit@one"}


class Hostile:
    """A management API; `answers` are functions by path, `asked` what it was sent."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[str, Any] = {
            "/api/overview": OVERVIEW,
            "/api/health/checks/alarms": {"status": "ok"},
            "/api/whoami": {"name": "u"},
        }

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.rel_url.raw_path, dict(request.headers)))
        answer = self.answers.get(request.rel_url.raw_path, 404)
        if callable(answer):
            return await answer(request)  # type: ignore[no-any-return]
        return (
            web.json_response({"reason": "INTERNAL-WORDS"}, status=answer)
            if isinstance(answer, int)
            else web.json_response(answer)
        )


@pytest.fixture
async def hostile() -> AsyncIterator[Hostile]:
    server = Hostile()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", server)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()


class Kubernetes:
    """An API server with one Secret."""

    def __init__(self, servers: str | None, **values: str) -> None:
        annotations = {} if servers is None else {SERVERS_ANNOTATION: servers}
        data = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.secret = {"metadata": {"annotations": annotations}, "data": data}
        self.asked: list[str] = []

    async def get(self, path: str) -> dict[str, Any]:
        self.asked.append(path)
        return self.secret


def connection(url: str, **spec: Any) -> Any:
    return make_resource(
        "RabbitMQConnection", "rabbit", managementUrl=url, allowInsecure=True, secretRef={"name": "login", **spec}
    )


async def open_rabbit(hostile: Hostile, **spec: Any) -> RabbitMQ:
    resource = replace(connection(hostile.url), spec={**connection(hostile.url).spec, **spec})
    api: Any = Kubernetes(hostile.url, username="u", password=SECRET)
    client = await logins.connect_broker(resource, await logins.fetch_secrets(api, resource), lambda: None)
    assert isinstance(client, RabbitMQ)
    return client


@pytest.mark.parametrize("servers", [None, "", "https://rabbitmq:15671", "http://attacker.test.evil"])
async def test_a_secret_is_used_only_at_the_servers_it_names(servers: str | None) -> None:
    api: Any = Kubernetes(servers, username="u", password=SECRET)
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.fetch_secrets(api, connection("http://attacker.test"))
    assert refused.value.reason is Reason.SECRET_NOT_ALLOWED
    assert SECRET not in str(refused.value)
    assert SERVERS_ANNOTATION in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://rabbit:15672@attacker.test",
        "http://u:p@rabbit:15672",
        "http://rabbit:15672.attacker.test",
        "http://attacker.test/?http://rabbit:15672",
        "http://rabbit:15672/../x",
        "https://rabbit:15672",
        "http://rabbit",
    ],
)
async def test_an_address_that_only_looks_like_the_meant_one_gets_no_secret(url: str) -> None:
    api: Any = Kubernetes("http://rabbit:15672", username="u", password=SECRET)
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.fetch_secrets(api, connection(url))
    assert refused.value.reason is Reason.SECRET_NOT_ALLOWED


async def test_the_keys_of_a_secret_are_not_chosen_by_the_connection() -> None:
    resource = connection("http://rabbit", passwordKey="token")
    api: Any = Kubernetes("http://rabbit/", username="u", token=SECRET)
    secrets = await logins.fetch_secrets(api, resource)
    assert base64.b64encode(SECRET.encode()).decode() not in json.dumps(secrets)
    with pytest.raises(BrokerUnavailable, match="no key password"):
        await logins.connect_broker(resource, secrets, lambda: None)


async def test_a_secrets_name_does_not_leave_its_path() -> None:
    resource = make_resource(
        "KafkaConnection",
        "k",
        bootstrapServers=["k:9092"],
        security={"tls": {"clientSecretRef": {"name": "../configmaps/x"}}},
    )
    api: Any = Kubernetes("k:9092")
    await logins.fetch_secrets(api, resource)
    assert api.asked == ["/api/v1/namespaces/shop/secrets/..%2Fconfigmaps%2Fx"]


async def test_binary_values_and_bad_certificates_are_reported() -> None:
    resource = make_resource(
        "RabbitMQConnection",
        "r",
        managementUrl="https://r",
        secretRef={"name": "s"},
        tls={"caSecretRef": {"name": "s"}},
    )
    api: Any = Kubernetes("https://r", username="u", password="p", ca_crt="no PEM")
    with pytest.raises(BrokerUnavailable) as refused:
        await logins.connect_broker(resource, await logins.fetch_secrets(api, resource), lambda: None)
    assert refused.value.reason is Reason.SECRET_UNUSABLE


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


def _answer_with(body: bytes, **headers: str) -> Any:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json", headers=headers)

    return answer


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


NO_LIST = "no list of at most"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (_endless, "larger than 33554432 bytes"),
        (_drip, "no answer within 1 s"),
        (_answer_with(b"[" * 200_000 + b"]" * 200_000), "no JSON, or too deep"),
        (_answer_with(b'{"a":' * 200_000 + b"1" + b"}" * 200_000), "no JSON, or too deep"),
        (_answer_with(b"[" + b"{}," * 8_000_000 + b"{}]"), "too many values"),
        (_answer_with(b"<html>INTERNAL-WORDS</html>"), "no JSON"),
        (_answer_with(b'{"items": [], "page_count": 1000000000}'), "more than 1000 pages"),
        (_answer_with(b'{"items": [], "page_count": "9"}'), "page_count is no whole number"),
        (_answer_with(b'{"items": [], "page_count": 1.5}'), "page_count is no whole number"),
        (_answer_with(b'{"items": [], "page_count": true}'), "page_count is no whole number"),
        (_answer_with(b'{"items": []}'), "page_count is no whole number"),
        (
            _answer_with(
                b'{"items": [{"name": "q", "durable": "INTERNAL-WORDS", "auto_delete": false, "type": "classic"}], '
                b'"page_count": 1}'
            ),
            "durable is neither true nor false",
        ),
        (
            _answer_with(
                b'{"items": [{"name": "q", "durable": true, "auto_delete": false, "type": "\\ud800"}], "page_count": 1}'
            ),
            "type is no such text",
        ),
        (_answer_with(b'{"items": {"a": 1}, "page_count": 1}'), NO_LIST),
        (_answer_with(b'{"items": ["INTERNAL-WORDS"], "page_count": 1}'), "no object where one belongs"),
        (_answer_with(b'{"items": [' + b"{}," * 500 + b'{}], "page_count": 1}'), NO_LIST),
        (_answer_with(b"[]"), "no object where one belongs"),
        (_answer_with(b"null"), "the answer is null"),
        (_answer_with(b"\x1f\x8b" + b"0" * 500, **{"Content-Encoding": "gzip"}), "no JSON"),
        (_answer_with(gzip.compress(b" " * (200 << 20), 9), **{"Content-Encoding": "gzip"}), "no JSON"),
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


@pytest.mark.parametrize(
    "spec",
    [
        {"name": ".."},
        {"name": "."},
        {"vhost": ".."},
        {"name": "é" * 200},
        {"name": 7},
        {"limits": {"messageTtl": 3}},
        {"arguments": {"x": 1}},
    ],
)
def test_a_resource_that_has_no_address_is_in_nobodys_way(spec: dict[str, Any]) -> None:
    bad = replace(make_resource("RabbitMQQueue", "bad"), spec={"connectionRef": {"name": "broker"}, **spec})
    with pytest.raises(UnusableSpec):
        parse_desired(bad)
    cache = ResourceCache()
    cache.put(bad)
    cache.put(make_resource("RabbitMQQueue", "good"))
    assert cache.list_conflicting(bad) == []
    assert len(cache) == 2
    cache.remove(bad.key)


@pytest.mark.parametrize("segment", ["", ".", "..", "\ud800"])
def test_no_segment_leaves_its_path(segment: str) -> None:
    with pytest.raises(UnusableSpec):
        build_api_path("queues", segment, "users")


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_a_path_has_as_many_segments_as_it_was_given_whatever_they_hold(vhost: str, name: str) -> None:
    """As the server reads it, after one decoding and after a second one that it shouldn't do."""
    try:
        made = build_api_path("queues", vhost, name)
    except UnusableSpec:
        return
    segments = made.removeprefix("/api/").split("/")
    assert [unquote(segment) for segment in segments] == ["queues", vhost, name]
    assert not {".", ".."} & {*segments, *(unquote(segment) for segment in segments)}
    assert not re.search(r"[?#\\\s]", made)


@pytest.mark.parametrize("segment", ["%2e%2e", "%2E", "..%2f..", "a/../b", "é%", "a?b#c", "日本:%"])
def test_what_is_quoted_already_stays_a_name(segment: str) -> None:
    assert unquote(build_api_path("queues", segment, "q").split("/")[3]) == segment
    assert len(build_api_path("queues", segment, "q").split("/")) == 5


@given(st.lists(st.sampled_from(["a", ":", "%", "%3A", "/"]), min_size=4, max_size=8).map("".join), st.data())
def test_different_names_never_share_an_identity(joined: str, data: st.DataObject) -> None:
    """One text cut into two names in two ways."""
    one, other = (data.draw(st.integers(1, len(joined) - 1)) for _ in range(2))
    same = build_identity("queue", joined[:one], joined[one:]) == build_identity(
        "queue", joined[:other], joined[other:]
    )
    assert same == (one == other)
    assert (
        build_identity("queue", joined.replace(":", "%3A"), "q") != build_identity("queue", joined, "q")
        or ":" not in joined
    )
    assert build_identity("queue", "a:b", "c") != build_identity("queue", "a", "b:c")


def test_bindings_are_distinguished_by_type_and_position_of_their_arguments() -> None:
    made = [
        Binding("/", "e", "q", arguments={"n": 1}),
        Binding("/", "e", "q", arguments={"n": "1"}),
        Binding("/", "e", "q", arguments={"a": "1,b=2"}),
        Binding("/", "e", "q", arguments={"a": "1", "b": "2"}),
        Binding("/", "e", "q:x", routing_key="y"),
        Binding("/", "e", "q", routing_key="x:y"),
    ]
    assert len({each.identity for each in made}) == len(made)


def test_a_pattern_that_python_would_never_finish_takes_no_time() -> None:
    resource = make_resource("KafkaConnection", "broker", protectedTopics=["^(a|a)*$", "(a*)*b", "(.*.*.*.*)*x"])
    started = time.process_time()
    assert check_admission(make_resource(topicName="a" * 240 + "!"), resource, None) is None
    assert time.process_time() - started < 1


@pytest.mark.parametrize("pattern", ["(", "(?=a)", r"(a)\1", "(((a{99}){99}){99})"])
def test_a_pattern_that_is_none_is_refused_by_field_and_nothing_is_touched(pattern: str) -> None:
    resource = make_resource("KafkaConnection", "broker", protectedTopics=["^__", pattern])
    for refused in (validate_connection(resource), check_admission(make_resource(topicName="orders"), resource, None)):
        assert refused is not None
        assert refused.reason is Reason.INVALID
        assert "spec.protectedTopics[1]" in refused.message


@pytest.mark.parametrize(
    "body",
    [
        b'{"revision": "r", "sequence": 9007199254740000}',
        b'{"revision": "r", "sequence": true}',
        b"[]",
        b" " * 5000,
        b'{"revision": "\\u001b", "sequence": 1}',
    ],
)
async def test_a_gateway_pod_that_lies_has_reported_nothing(hostile: Hostile, body: bytes) -> None:
    hostile.answers["/revision"] = _answer_with(body)
    pods = GatewayPods()
    port = int(hostile.url.rpartition(":")[2])
    (pod,) = await asyncio.wait_for(pods.fetch_revisions([_endpoint(port)]), 10)
    await pods.close()
    assert (pod.revision, pod.sequence) == (None, None)


def _endpoint(port: int) -> Endpoint:
    fields = dict.fromkeys(Endpoint.__dataclass_fields__)
    return Endpoint(**{**fields, "address": "127.0.0.1", "port": port, "pod": "p"})  # type: ignore[arg-type]
