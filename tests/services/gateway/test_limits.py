"""Rate limits: per user and class, across replicas, with and without Redis."""

import asyncio
from ipaddress import ip_network

import pytest
from fastapi import APIRouter
from redis.asyncio import Redis

from caravan.clock import new_id
from caravan.errors import TooManyRequests
from caravan.http.client_ip import get_network, resolve_client_ip
from caravan.runtime import Backends
from caravan.service import Service
from services.gateway.limits import RateClass, RateClasses, RateLimiter
from services.gateway.settings import Settings
from tests.support.shop import Shop, run_services

router = APIRouter()


@router.get("/v1/reading")
async def read() -> str:
    return "read"


@router.post("/v1/auth/token")
async def sign_in() -> str:
    return "tokens"


LIMITED_SERVICE = Service("things", routers=(router,))


def who() -> str:
    return str(new_id())


async def admitted(limits: RateLimiter, policy: RateClass, name: str, attempts: int) -> int:
    taken = await asyncio.gather(*(limits.take_token(policy, name) for _ in range(attempts)), return_exceptions=True)
    assert all(isinstance(one, TooManyRequests) for one in taken if isinstance(one, BaseException))
    return sum(not isinstance(one, BaseException) for one in taken)


async def test_over_the_limit_is_429_with_its_headers_and_another_user_is_not_hurt(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_READS_PER_MINUTE", "5")
    async with run_services(backends, "gateway", extra_services=(LIMITED_SERVICE,)) as shop:
        mine, others = shop.issue_headers(), shop.issue_headers()
        answers = [await shop.client.get("/v1/reading", headers=mine) for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert [answer.headers["ratelimit"] for answer in answers[:5]] == [
            f'"reads";r={left}' for left in (4, 3, 2, 1, 0)
        ]
        refused = answers[5]
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == '"reads";q=5;w=60'
        assert refused.headers["ratelimit"] == f'"reads";r=0;t={refused.headers["retry-after"]}'
        assert refused.headers["content-type"] == "application/problem+json"
        assert (await shop.client.get("/v1/reading", headers=others)).status_code == 200


async def _sign_in(shop: Shop, forwarded: str) -> int:
    return (await shop.client.post("/v1/auth/token", headers={"x-forwarded-for": forwarded})).status_code


async def test_a_forged_address_helps_nobody_and_a_trusted_proxy_is_believed(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_AUTH_PER_MINUTE", "3")
    await _forget(backends)
    async with run_services(backends, "gateway", extra_services=(LIMITED_SERVICE,)) as shop:
        assert [await _sign_in(shop, f"10.0.0.{n}") for n in range(4)] == [200, 200, 200, 429]
    await _forget(backends)
    monkeypatch.setenv("GATEWAY_TRUSTED_PROXIES", "127.0.0.1, 10.9.0.0/16")
    async with run_services(backends, "gateway", extra_services=(LIMITED_SERVICE,)) as shop:
        assert [await _sign_in(shop, f"10.0.0.{n}") for n in range(4)] == [200] * 4
        assert [await _sign_in(shop, f"{n}.1.1.1, 10.0.0.77") for n in range(4)] == [200, 200, 200, 429]
    await _forget(backends)


async def _forget(backends: Backends) -> None:
    redis = Redis.from_url(backends.redis_url)
    async for key in redis.scan_iter("limits*"):
        await redis.delete(key)
    await redis.aclose()


async def test_a_bad_token_counts_for_its_address(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_READS_PER_MINUTE", "2")
    await _forget(backends)
    async with run_services(backends, "gateway", extra_services=(LIMITED_SERVICE,)) as shop:
        headers = {"authorization": "Bearer forged"}
        assert [(await shop.client.get("/v1/reading", headers=headers)).status_code for _ in range(3)] == [
            401,
            401,
            429,
        ]
    await _forget(backends)


async def test_an_admin_has_one_class_for_everything(backends: Backends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_AUTH_PER_MINUTE", "1")
    monkeypatch.setenv("GATEWAY_ADMINS_PER_MINUTE", "3")
    async with run_services(backends, "gateway", extra_services=(LIMITED_SERVICE,)) as shop:
        admin = shop.issue_headers("admin")
        answers = [await shop.client.post("/v1/auth/token", headers=admin) for _ in range(2)] + [
            await shop.client.get("/v1/reading", headers=admin) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert answers[0].headers["ratelimit-policy"] == '"admins";q=3;w=60'


async def test_two_replicas_share_a_limit(backends: Backends) -> None:
    redis = Redis.from_url(backends.redis_url)
    one, other, policy, name = RateLimiter(redis), RateLimiter(redis), RateClass("shared", 1000), who()
    counts = await asyncio.gather(admitted(one, policy, name, 800), admitted(other, policy, name, 800))
    assert 1000 - policy.chunk_size <= sum(counts) <= 1000 + 2 * policy.chunk_size
    await redis.aclose()


async def test_tokens_are_taken_in_chunks_so_that_most_requests_ask_nobody(backends: Backends) -> None:
    redis = Redis.from_url(backends.redis_url)
    limits, policy, name = RateLimiter(redis), RateClass("chunks", 6000), who()
    before = (
        (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
        if await admitted(limits, policy, who(), 1)
        else 0
    )
    assert await admitted(limits, policy, name, 600) == 600
    after = (await redis.info("commandstats"))["cmdstat_evalsha"]["calls"]
    assert after - before <= 2 * 600 / policy.chunk_size + 2
    await redis.aclose()


async def test_without_redis_every_replica_counts_by_itself_and_shares_again_when_it_is_back(
    backends: Backends,
) -> None:
    unreachable = Redis.from_url("redis://127.0.0.1:9", socket_connect_timeout=0.2)
    now = [0.0]
    one, other, policy, name = (
        RateLimiter(unreachable, lambda: now[0]),
        RateLimiter(unreachable),
        RateClass("alone", 10),
        who(),
    )
    assert await admitted(one, policy, name, 20) == 10
    assert await admitted(other, policy, name, 20) == 10
    await unreachable.aclose()
    back = Redis.from_url(backends.redis_url)
    one._shared = RateLimiter(back)._shared
    now[0] = 70.0
    assert await admitted(one, policy, name, 20) == 10
    assert await admitted(RateLimiter(back), policy, name, 20) == 0
    await back.aclose()


async def test_the_whole_gateway_answers_while_redis_is_away(backends: Backends) -> None:
    async with run_services(
        Backends(backends.database_url, "redis://127.0.0.1:9", backends.secret),
        "gateway",
        extra_services=(LIMITED_SERVICE,),
    ) as shop:
        answers = [await shop.client.get("/v1/reading", headers=shop.issue_headers()) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert "caravan_gateway_limits_local 1.0" in (await shop.client.get("/metrics")).text


def test_the_class_of_a_route() -> None:
    policies = RateClasses(Settings())
    expected = {
        ("POST", "/v1/auth/token"): "auth",
        ("POST", "/v1/users/me/password"): "auth",
        ("POST", "/v1/users"): "registration",
        ("GET", "/v1/users"): "reads",
        ("POST", "/v1/orders"): "orders",
        ("POST", "/v1/orders/{order_id}/cancel"): "writes",
        ("PATCH", "/v1/users/me"): "writes",
        ("HEAD", "/"): "reads",
    }
    assert {route: policies.choose_class(*route).name for route in expected} == expected


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("9.9.9.9", "1.1.1.1", "9.9.9.9"),
        ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "nonsense", "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("unknown", "1.1.1.1", "unknown"),
    ],
)
def test_only_trusted_proxies_say_who_the_client_is(peer: str, forwarded: str, client: str) -> None:
    assert resolve_client_ip(peer, forwarded, (ip_network("10.0.0.0/8"),)) == client


def test_one_party_has_one_network() -> None:
    assert get_network("2001:db8::1") == get_network("2001:db8::ffff") != get_network("2001:db8:0:1::1")
    assert get_network("::ffff:1.2.3.4") == get_network("1.2.3.4") == "1.2.3.4"
    assert get_network("testclient") == "unknown"
