"""What a snapshot's routes make public: by prefix, exactly, or as a service declares; and the rules of each."""

import itertools

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.discovery.routing_snapshot import Route as Rule
from caravan.http import Scope
from caravan.runtime import Backends
from services.gateway.routing.rules import RoutingRules, rewrite_scope
from services.gateway.routing.trie import Trie
from tests.services.gateway.snapshots import Mounted, document, endpoint, route
from tests.services.gateway.stand_ins import Pets, listening
from tests.support.shop import run_services, wait_until


def rule(service: str, **more: object) -> Rule:
    return Rule.model_validate(route(service, **more))


def leads_to(
    rules: RoutingRules, path: str, method: str = "GET", host: str = "shop.test", declared: Trie | None = None
) -> str | None:
    match = rules.resolve_route(declared.find_route(path) if declared else None, path, method, host)
    return match.service if match else None


PATHS = st.lists(st.sampled_from(["v1", "a", "b", "ab"]), max_size=4).map(lambda parts: "/" + "/".join(parts))


@given(st.lists(PATHS, unique=True, max_size=6), PATHS)
def test_of_prefixes_the_longest_of_whole_segments_wins(prefixes: list[str], path: str) -> None:
    rules = RoutingRules(rule(f"s{n}", pathPrefix=prefix) for n, prefix in enumerate(prefixes))
    fitting = [
        (len(prefix), f"s{n}") for n, prefix in enumerate(prefixes) if f"{path}/".startswith(prefix.rstrip("/") + "/")
    ]
    assert leads_to(rules, path) == (max(fitting)[1] if fitting else None)


@given(st.permutations(range(5)))
def test_for_one_path_the_exact_rule_wins_then_the_one_for_the_host_then_the_one_for_the_method(
    order: list[int],
) -> None:
    given_rules = [
        rule("prefix", pathPrefix="/v1/a"),
        rule("exact", pathExact="/v1/a"),
        rule("host", pathExact="/v1/a", host="one.test"),
        rule("method", pathExact="/v1/a", methods=["POST"]),
        rule("host-and-method", pathExact="/v1/a", host="one.test", methods=["PUT"]),
    ]
    rules = RoutingRules(given_rules[n] for n in order)
    found = {
        (method, host): leads_to(rules, "/v1/a", method, host)
        for method, host in itertools.product(["GET", "POST", "PUT"], ["one.test", "two.test"])
    }
    assert found == {
        ("GET", "one.test"): "host",
        ("POST", "one.test"): "host",
        ("PUT", "one.test"): "host-and-method",
        ("GET", "two.test"): "exact",
        ("POST", "two.test"): "method",
        ("PUT", "two.test"): "exact",
    }


def test_what_a_service_declares_yields_to_a_rule_that_names_as_much_and_not_to_one_that_names_less() -> None:
    declared = Trie([("/v1/orders/{id}", "GET", "orders")])
    assert (
        leads_to(RoutingRules([rule("orders"), rule("old", pathPrefix="/")]), "/v1/orders/7", declared=declared)
        == "orders"
    )
    assert (
        leads_to(
            RoutingRules([rule("orders"), rule("new", pathPrefix="/v1/orders")]), "/v1/orders/7", declared=declared
        )
        == "new"
    )
    assert leads_to(RoutingRules([rule("old", pathPrefix="/")]), "/v1/orders/7", declared=declared) == "old"
    assert leads_to(RoutingRules([rule("orders", methods=["POST"])]), "/v1/orders/7", declared=declared) is None


@pytest.mark.parametrize(
    "path",
    [
        "/internal/x/y",
        "/metrics",
        "/revision",
        "/livez",
        "/openapi.json",
        "/a/../b",
        "/./x",
        "/pub/internal/x",
        "/pub/metrics",
        "/pub/..",
    ],
)
def test_no_rule_opens_what_services_serve_for_their_cluster(path: str) -> None:
    rules = RoutingRules([rule("any", pathPrefix="/"), rule("moved", pathPrefix="/pub", rewritePrefix="/")])
    assert leads_to(rules, path) is None


@pytest.mark.parametrize(
    ("prefix", "to", "path", "raw", "expected"),
    [
        ("/v2/pets", "/v1/pets", "/v2/pets/rex", b"/v2/pets/rex", b"/v1/pets/rex"),
        ("/v2/pets", "/v1/pets", "/v2/pets", b"/v2/pets", b"/v1/pets"),
        ("/pets", "/", "/pets", b"/pets", b"/"),
        ("/pets", "/", "/pets/a b", b"/pets/a%20b", b"/a%20b"),
        ("/", "/old", "/pets", b"/pets", b"/old/pets"),
        ("/pets", "/v1", "/pets/a/b", b"/pets/a%2Fb", b"/v1/a%2Fb"),
        ("/pets", "/v1", "/pets/a b", b"/p%65ts/a%20b", b"/v1/a%20b"),
        ("/pets", "/", "/pets/a", b"/pets%2Fa", b"/a"),
    ],
)
def test_a_prefix_is_replaced_and_the_rest_stays_as_the_client_wrote_it(
    prefix: str, to: str, path: str, raw: bytes, expected: bytes
) -> None:
    scope: Scope = {"path": path, "raw_path": raw}
    assert rewrite_scope(rule("pets", pathPrefix=prefix, rewritePrefix=to), scope)["raw_path"] == expected


async def test_a_service_that_the_snapshot_adds_is_routed_and_documented_without_a_restart_and_gone_with_it(
    backends: Backends, tmp_path: object
) -> None:
    mounted, pets, birds = Mounted(tmp_path), Pets(), Pets("birds")  # type: ignore[arg-type]
    async with (
        listening(pets.app(backends)) as pets_url,
        listening(birds.app(backends)) as birds_url,
    ):
        mounted.put(document(1, {"pets": [endpoint(pets_url)]}))
        async with run_services(backends, "gateway", registry_file=mounted.path) as shop:

            async def answers(path: str, status: int) -> bool:
                return (await shop.client.get(path)).status_code == status

            await wait_until(lambda: answers("/v1/pets/rex", 200))
            assert await answers("/v1/birds/tit", 404)
            both = {"pets": [endpoint(pets_url)], "birds": [endpoint(birds_url)]}
            moved = route("birds", pathPrefix="/v2/flying", rewritePrefix="/v1/birds", name="shop/birds/1")
            mounted.put(document(2, both, [route("pets"), route("birds", methods=["GET"]), moved]))
            await wait_until(lambda: answers("/v1/birds/tit", 200), seconds=2)
            assert await answers("/v2/flying/tit", 200)
            assert (await shop.client.post("/v1/birds")).status_code == 404
            assert (await shop.client.post("/v2/flying", content=b"x")).status_code == 200
            paths = (await shop.client.get("/openapi.json")).json()["paths"]
            assert {
                "/v1/pets/{name}",
                "/v1/birds/{name}",
                "/v2/flying/{name}",
                "/v2/flying",
                "/v1/me/overview",
            } <= paths.keys()
            assert "/v1/birds" not in paths, "what the rule leaves out is not documented"
            mounted.put(document(3, {"pets": [endpoint(pets_url)]}))
            await wait_until(lambda: answers("/v1/birds/tit", 404), seconds=2)
            assert not [
                path
                for path in (await shop.client.get("/openapi.json")).json()["paths"]
                if "birds" in path or "flying" in path
            ]


async def test_a_rule_says_who_may_come_and_how_often(backends: Backends, tmp_path: object) -> None:
    mounted, pets = Mounted(tmp_path), Pets()  # type: ignore[arg-type]
    async with listening(pets.app(backends)) as url:
        limit = {"requests": 2, "period": 60, "key": "Route"}
        routes = [
            route("pets", auth="Required"),
            route("pets", pathPrefix="/v1/pets/open", auth="None", name="shop/pets/open"),
            route("pets", pathPrefix="/v1/pets/rare", rateLimit=limit, name="shop/pets/rare"),
        ]
        mounted.put(document(1, {"pets": [endpoint(url)]}, routes))
        async with run_services(backends, "gateway", registry_file=mounted.path) as shop:

            async def get(path: str, **headers: str) -> httpx2.Response:
                return await shop.client.get(path, headers=headers)

            async def routed() -> bool:
                return (await get("/v1/pets/rex", **shop.issue_headers())).status_code == 200

            await wait_until(routed)
            refused = await get("/v1/pets/rex")
            assert refused.status_code == 401
            assert "www-authenticate" in refused.headers
            assert (await get("/v1/pets/open/song-of", authorization="Bearer of-another-realm")).status_code == 404, (
                "passed on, not checked"
            )
            statuses = [
                (await get("/v1/pets/rare/reply", **shop.issue_headers(role))).status_code
                for role in ("customer", "admin", "customer")
            ]
            assert statuses == [200, 200, 429]
            assert (await get("/v1/pets/rare/reply")).headers["ratelimit-policy"] == '"shop/pets/rare";q=2;w=60'
