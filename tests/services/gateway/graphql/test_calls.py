"""The calls of an operation go by the public routes that clients have: their rules, their limits, their audit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest
from fastapi import APIRouter

from caravan.errors import Forbidden
from caravan.http import App, create_app
from caravan.runtime import Backends
from services.gateway.graphql import service_calls
from tests.services.gateway.snapshots import Mounted, document, endpoint, route
from tests.services.gateway.stand_ins import listening
from tests.support.shop import Shop, run_services, wait_until

PRODUCT = '{ product(sku: "A") { sku } }'
PRODUCTS = '{ product(sku: "A") { sku } slow: product(sku: "slow") { sku } }'


class Catalog:
    """A stand-in that answers, hangs or refuses, by the sku."""

    def __init__(self, backends: Backends) -> None:
        self.asked: list[str] = []
        self.seconds = 0.0
        router = APIRouter()
        router.add_api_route("/v1/products/{sku}", self.show)
        router.add_api_route("/v1/products/{sku}", self.change, methods=["PATCH"])
        router.add_api_route("/v1/auth/token", self.sign_in, methods=["POST"])
        self.app: App = create_app("catalog", (router,), SimpleNamespace(secret=backends.secret, refused=None), None)

    async def show(self, sku: str) -> dict[str, Any]:
        self.asked.append(sku)
        await asyncio.sleep(self.seconds)
        if sku == "slow":
            await asyncio.Event().wait()
        if sku == "secret":
            raise Forbidden("this product is a secret")
        return {"sku": sku}

    async def sign_in(self) -> dict[str, Any]:
        return {"expires_in": 60}

    async def change(self, sku: str) -> dict[str, Any]:
        self.asked.append(sku)
        return {"sku": sku}


@contextlib.asynccontextmanager
async def run_gateway(backends: Backends, folder: Path, **rule: Any) -> AsyncIterator[tuple[Shop, Catalog]]:
    """A gateway that follows a snapshot, with one rule for the catalogue in another process. `/v1/known` is another
    service's, by which it is known that the snapshot is in force.
    """
    mounted, catalog = Mounted(folder), Catalog(backends)
    async with listening(catalog.app) as url:
        rules = [route("catalog", **rule)] if rule else []
        known = route("known", pathExact="/v1/products/known", name="shop/known/0")
        entries = {"catalog": [endpoint(url)], "known": [endpoint(url)]}
        mounted.put(document(1, entries, [*rules, known]))
        async with run_services(backends, "gateway", registry_file=mounted.path, cache=False) as shop:

            async def is_routed() -> bool:
                table = shop.get_context("gateway").resources.table
                has_document = not rules or "catalog" in table.documents
                return has_document and (await shop.client.get("/v1/products/known")).status_code == 200

            await wait_until(is_routed)
            catalog.asked.clear()
            yield shop, catalog


async def ask(shop: Shop, query: str, headers: dict[str, str] | None = None) -> tuple[Any, list[str]]:
    """The data, and the codes of the errors."""
    answer = await shop.client.post("/graphql", json={"query": query}, headers=headers or {})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return body["data"], [error["extensions"]["code"] for error in body.get("errors", ())]


async def test_an_operation_of_many_calls_is_answered_where_a_service_takes_few_at_a_time(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_calls, "CALLS_AT_ONCE", 4)
    monkeypatch.setenv("GATEWAY_MAX_REQUESTS_PER_SERVICE", "4")
    monkeypatch.setenv("GATEWAY_MAX_WAITING_PER_SERVICE", "0")
    async with run_gateway(backends, tmp_path, auth="None") as (shop, catalog):
        aliases = " ".join(f'p{number}: product(sku: "{number}") {{ sku }}' for number in range(10))
        data, codes = await ask(shop, f"{{ {aliases} }}")
        assert codes == []
        assert len(data) == len(catalog.asked) == 10


@pytest.mark.parametrize("rule", [{}, {"methods": ["PATCH"]}, {"pathPrefix": "/v2/products"}])
async def test_what_is_not_public_is_not_reached(backends: Backends, tmp_path: Path, rule: dict[str, Any]) -> None:
    async with run_gateway(backends, tmp_path, **rule) as (shop, catalog):
        assert await ask(shop, PRODUCT, shop.issue_headers()) == ({"product": None}, ["NOT_FOUND"])
        assert catalog.asked == []


async def test_a_rule_asks_for_a_token(backends: Backends, tmp_path: Path) -> None:
    async with run_gateway(backends, tmp_path, auth="Required") as (shop, catalog):
        assert await ask(shop, PRODUCT) == ({"product": None}, ["UNAUTHORIZED"])
        assert catalog.asked == []
        assert await ask(shop, PRODUCT, shop.issue_headers()) == ({"product": {"sku": "A"}}, [])


async def test_the_limit_of_a_rule_holds_for_reads_of_an_operation(backends: Backends, tmp_path: Path) -> None:
    limit = {"requests": 2, "period": 60, "key": "Route"}
    async with run_gateway(backends, tmp_path, rateLimit=limit, name=f"shop/catalog/{tmp_path.name}") as (shop, _):
        query = "{ " + " ".join(f'p{n}: product(sku: "S{n}") {{ sku }}' for n in range(3)) + " }"
        assert (await ask(shop, query))[1] == ["TOO_MANY_REQUESTS"]


async def test_who_is_refused_in_an_operation_is_noted_once(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_gateway(backends, tmp_path, auth="Optional") as (shop, _):
        noted: list[tuple[Any, ...]] = []
        refusals = shop.get_context("gateway").resources.refusals
        monkeypatch.setattr(refusals, "record_refusal", lambda *refusal: noted.append(refusal))
        assert (await ask(shop, '{ product(sku: "secret") { sku } }'))[1] == ["FORBIDDEN"]
        ((status, actor, _, operation, reason),) = noted
        assert (status, actor, operation) == (403, "anonymous", "GET /v1/products/{sku}")
        assert reason == "this product is a secret"


async def test_what_came_in_time_is_answered(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_GRAPHQL_SECONDS", "0.5")
    async with run_gateway(backends, tmp_path, auth="Optional") as (shop, _):
        data, codes = await ask(shop, PRODUCTS)
        assert data == {"product": {"sku": "A"}, "slow": None}
        assert codes == ["DEADLINE_EXCEEDED"]


async def test_a_write_counts_against_the_network_of_its_client(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_gateway(backends, tmp_path, auth="Optional") as (shop, _):
        taken: list[tuple[str, str]] = []
        limiter = shop.get_context("gateway").resources.rate_limiter
        original = limiter.take_token

        async def note(rate_class: Any, key: str) -> Any:
            taken.append((rate_class.name, key))
            return await original(rate_class, key)

        monkeypatch.setattr(limiter, "take_token", note)
        transport = httpx2.ASGITransport(app=shop.process.app, client=("2001:db8::17", 1))
        async with httpx2.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            login = (
                'mutation { issueTokens(input: {grantType: "password", username: "a", password: "b"}) { expiresIn } }'
            )
            await client.post("/graphql", json={"query": login})
        assert taken == [("reads", "2001:db8::/64"), ("auth", "2001:db8::/64")]
