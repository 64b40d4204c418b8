"""Compiling a routing snapshot: tables for each rule, properties for the whole, and the gateway's own reader as the
reference for the form.
"""

import random
from typing import Any

import pytest
from caravan_operator.reconcile.endpoint_index import EndpointIndex, EndpointSlice, Service
from caravan_operator.reconcile.service_route import ALL_METHODS, CompiledSnapshot, compile_snapshot, parse_revision
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, ENDPOINTS_AVAILABLE, RESOLVED_REFS
from hypothesis import given
from hypothesis import strategies as st

from caravan.discovery.routing_snapshot import parse_snapshot
from tests.operator.resources import START, make_resource

READY = {"ready": True, "serving": True, "terminating": False}
UNREADY = {"ready": False, "serving": False, "terminating": False}
DRAINING = {"ready": False, "serving": True, "terminating": True}


def make_route(name: str = "orders", *routes: dict[str, Any], service: str = "", age: int = 0, **spec: Any) -> Resource:
    route = make_resource(
        "ServiceRoute", name, age=age, serviceRef={"name": service or name}, routes=list(routes), **spec
    )
    del route.spec["connectionRef"]  # type: ignore[attr-defined]
    return route


def make_service(name: str = "orders", *ports: tuple[str, int], **spec: Any) -> Service:
    listed = [{"name": port, "port": number} for port, number in ports or (("http", 80),)]
    return Service.from_body({"metadata": {"name": name}, "spec": {"ports": listed, "ipFamilies": ["IPv4"], **spec}})


def make_slice(
    name: str, *endpoints: tuple[str, dict[str, Any]], part: str = "a", port: int = 8080, family: str = "IPv4"
) -> EndpointSlice:
    return EndpointSlice.from_body(
        {
            "metadata": {"name": f"{name}-{part}", "labels": {"kubernetes.io/service-name": name}},
            "addressType": family,
            "ports": [{"name": "http", "port": port}],
            "endpoints": [{"addresses": [address], "conditions": states} for address, states in endpoints],
        }
    )


def compile_routes(routes: list[Resource], endpoint_index: EndpointIndex | None = None) -> CompiledSnapshot:
    return compile_snapshot(
        "gateway",
        routes,
        endpoint_index or EndpointIndex([make_service()], [make_slice("orders", ("10.0.0.1", READY))]),
    )


def list_conditions(found: CompiledSnapshot, route: Resource) -> dict[str, tuple[Any, str]]:
    return {each.type: (each.status, str(each.reason)) for each in found.route_statuses[route.key].conditions}


def test_a_service_with_endpoints_is_accepted_and_the_gateway_reads_what_is_compiled() -> None:
    limit = {"requests": 100, "period": "1m"}
    route = make_route(
        "orders",
        {"pathsFrom": "OpenAPI"},
        {"pathPrefix": "/v2/orders", "rewritePrefix": "/v1/orders", "rateLimit": limit},
    )
    found = compile_routes([route])
    snapshot = parse_snapshot(found.render_document(7))
    assert list_conditions(found, route) == {
        ACCEPTED: (True, "Accepted"),
        RESOLVED_REFS: (True, "Resolved"),
        ENDPOINTS_AVAILABLE: (True, "Found"),
    }
    assert (snapshot.revision, snapshot.sequence) == (found.revision, 7)
    entry = snapshot.services["orders"]
    assert [endpoint.url for endpoint in entry.endpoints] == ["http://10.0.0.1:8080"]
    assert entry.timeouts.request == 10
    assert entry.timeouts.connect == 0.5
    assert entry.retry.attempts == 2
    assert entry.retry.unsent
    assert [rule.path_prefix for rule in snapshot.routes] == [None, "/v2/orders"]
    assert snapshot.routes[1].rate_limit is not None
    assert snapshot.routes[1].rate_limit.period == 60
    assert parse_revision(found.render_document(7).decode()) == (found.revision, 7)


def test_every_field_reaches_the_gateway() -> None:
    spec: dict[str, Any] = {
        "timeouts": {"request": "2s", "backendRequest": "500ms", "connect": "100ms"},
        "retry": {"attempts": 5, "backoff": "10ms", "codes": [503], "methods": ["GET", "PUT"], "budgetPercent": 50},
        "circuitBreaker": {
            "window": "1m",
            "minRequests": 7,
            "failureRatio": 0.25,
            "consecutiveFailures": 9,
            "openFor": "3s",
            "halfOpenProbes": 4,
            "maxEjectionPercent": 10,
        },
        "limits": {"maxInFlight": 12},
        "loadBalancing": "RoundRobin",
    }
    public = {"host": "shop.test", "pathExact": "/v1/a", "methods": ["POST"], "auth": "Required"}
    snapshot = parse_snapshot(compile_routes([make_route("orders", public, **spec)]).render_document(1))
    entry, rule = snapshot.services["orders"], snapshot.routes[0]
    assert entry.timeouts.model_dump() == {"request": 2, "backend_request": 0.5, "connect": 0.1}
    assert entry.retry.model_dump() == {
        "attempts": 5,
        "backoff": 0.01,
        "codes": {503},
        "methods": {"GET", "PUT"},
        "budget_percent": 50,
        "unsent": True,
    }
    assert [*entry.circuit_breaker.model_dump().values()] == [60, 7, 0.25, 9, 3, 4, 10]
    assert entry.limits.max_in_flight == 12
    assert entry.load_balancing == "RoundRobin"
    assert (rule.host, rule.path_exact, [*rule.methods], rule.auth) == ("shop.test", "/v1/a", ["POST"], "Required")


CLASHES = [
    ({"pathPrefix": "/v1"}, {"pathPrefix": "/v1"}, True),
    ({"pathPrefix": "/v1"}, {"pathExact": "/v1"}, False),
    ({"pathPrefix": "/v1"}, {"pathPrefix": "/v1/orders"}, False),
    ({"pathPrefix": "/v1", "host": "a.test"}, {"pathPrefix": "/v1", "host": "b.test"}, False),
    ({"pathPrefix": "/v1", "host": "a.test"}, {"pathPrefix": "/v1"}, False),
    ({"pathExact": "/v1", "methods": ["GET"]}, {"pathExact": "/v1", "methods": ["POST"]}, False),
    ({"pathExact": "/v1", "methods": ["GET", "PUT"]}, {"pathExact": "/v1", "methods": ["PUT"]}, True),
    ({"pathExact": "/v1", "methods": ["GET"]}, {"pathExact": "/v1"}, True),
    ({"pathsFrom": "OpenAPI"}, {"pathsFrom": "OpenAPI"}, False),
]


@pytest.mark.parametrize(("one", "other", "clash"), CLASHES)
def test_of_two_resources_with_one_path_the_older_has_it(
    one: dict[str, Any], other: dict[str, Any], clash: bool
) -> None:
    older, younger = (
        make_route("old", one, {"pathPrefix": "/old"}, age=10),
        make_route("young", {"pathPrefix": "/young"}, other),
    )
    snapshot = compile_routes([younger, older])
    assert list_conditions(snapshot, older)[ACCEPTED] == (True, "Accepted")
    assert list_conditions(snapshot, younger)[ACCEPTED] == ((False, "Conflict") if clash else (True, "Accepted"))
    assert snapshot.route_statuses[younger.key].conflict == ("shop/old" if clash else None)
    names = {rule["name"] for rule in snapshot.content["routes"]}
    assert names == {"shop/old/0", "shop/old/1"} | (set() if clash else {"shop/young/0", "shop/young/1"})
    assert snapshot.content["services"].keys() == {"old", "young"}, "other services find both"
    parse_snapshot(snapshot.render_document(1))


def test_a_match_given_twice_in_one_resource_is_invalid_and_a_deleted_one_frees_its_own() -> None:
    twice = make_route("orders", {"pathExact": "/v1/a"}, {"pathExact": "/v1/a", "methods": ["GET"]})
    assert list_conditions(compile_routes([twice]), twice)[ACCEPTED] == (False, "Invalid")
    gone = make_resource(
        "ServiceRoute", "old", age=9, deleted=START, serviceRef={"name": "orders"}, routes=[{"pathPrefix": "/v1"}]
    )
    mine = make_route("orders", {"pathPrefix": "/v1"})
    assert list_conditions(compile_routes([gone, mine]), mine)[ACCEPTED] == (True, "Accepted")


@pytest.mark.parametrize(
    ("port", "ports", "extra", "reason"),
    [
        (None, (("http", 80),), {}, "Resolved"),
        (80, (("http", 80), ("admin", 81)), {}, "Resolved"),
        ("http", (("http", 80), ("admin", 81)), {}, "Resolved"),
        (None, (("http", 80), ("admin", 81)), {}, "PortNotFound"),
        (82, (("http", 80),), {}, "PortNotFound"),
        ("grpc", (("http", 80),), {}, "PortNotFound"),
        (None, (("http", 80),), {"type": "ExternalName"}, "ServiceUnsupported"),
    ],
)
def test_the_port_is_the_named_the_numbered_or_the_only_one(
    port: Any, ports: tuple[Any, ...], extra: dict[str, Any], reason: str
) -> None:
    ref = {"name": "orders"} | ({"port": port} if port is not None else {})
    route = make_resource("ServiceRoute", "orders", serviceRef=ref)
    snapshot = compile_routes(
        [route], EndpointIndex([make_service("orders", *ports, **extra)], [make_slice("orders", ("10.0.0.1", READY))])
    )
    assert list_conditions(snapshot, route)[RESOLVED_REFS] == (reason == "Resolved", reason)
    assert len(snapshot.content["services"]["orders"]["endpoints"]) == (reason == "Resolved")
    missing = compile_routes([route], EndpointIndex())
    assert list_conditions(missing, route)[RESOLVED_REFS] == (False, "ServiceNotFound")
    assert list_conditions(missing, route)[ENDPOINTS_AVAILABLE][0] is False


def test_endpoints_are_counted_by_their_states_and_one_in_two_slices_counts_once() -> None:
    endpoint_index = EndpointIndex(
        [make_service()],
        [
            make_slice("orders", ("10.0.0.1", READY), ("10.0.0.2", UNREADY), ("10.0.0.3", DRAINING), ("10.0.0.4", {})),
            make_slice("orders", ("10.0.0.2", READY), part="b"),
            make_slice("orders", ("fd00::1", READY), part="c", family="IPv6"),
            make_slice("others", ("10.0.0.9", READY)),
        ],
    )
    route = make_route()
    snapshot = compile_routes([route], endpoint_index)
    assert snapshot.route_statuses[route.key].endpoints == {"ready": 3, "serving": 4, "terminating": 1}
    assert [each["address"] for each in snapshot.content["services"]["orders"]["endpoints"]] == [
        f"10.0.0.{n}" for n in (1, 2, 3, 4)
    ]
    assert endpoint_index.put_slice("orders", "orders-a", None)
    assert not endpoint_index.put_slice("orders", "orders-a", None)
    assert compile_routes([route], endpoint_index).route_statuses[route.key].endpoints == {
        "ready": 1,
        "serving": 1,
        "terminating": 0,
    }


def test_where_all_are_leaving_the_condition_says_so() -> None:
    route = make_route()
    snapshot = compile_routes([route], EndpointIndex([make_service()], [make_slice("orders", ("10.0.0.1", DRAINING))]))
    available = next(each for each in snapshot.route_statuses[route.key].conditions if each.type == ENDPOINTS_AVAILABLE)
    assert available.status is False
    assert "1 that still serve" in available.message


PUBLIC = st.fixed_dictionaries(
    {},
    optional={
        "methods": st.lists(st.sampled_from(ALL_METHODS), min_size=1, unique=True),
        "host": st.sampled_from(["a.test", "b.test"]),
    },
).flatmap(
    lambda rest: st.one_of(
        st.builds(lambda path: {**rest, "pathPrefix": path}, st.sampled_from(["/", "/v1", "/v1/a"])),
        st.builds(lambda path: {**rest, "pathExact": path}, st.sampled_from(["/v1", "/v1/a"])),
        st.just({**rest, "pathsFrom": "OpenAPI"}),
    )
)
ROUTES = st.lists(st.tuples(st.lists(PUBLIC, max_size=3), st.integers(0, 3)), max_size=6).map(
    lambda drawn: [make_route(f"s{number}", *public, age=age) for number, (public, age) in enumerate(drawn)]
)
STATES = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("ready", "serving", "terminating"), st.sampled_from([True, False, None]))
)
SLICES = st.lists(
    st.builds(
        lambda owner, part, endpoints: make_slice(owner, *endpoints, part=part),
        st.sampled_from(["s0", "s1", "s2"]),
        st.sampled_from(["a", "b"]),
        st.lists(st.tuples(st.sampled_from([f"10.0.0.{n}" for n in range(4)]), STATES), max_size=4),
    ),
    max_size=6,
    unique_by=lambda each: each.name,
)


@given(ROUTES, SLICES, st.integers())
def test_order_never_matters(routes: list[Resource], slices: list[EndpointSlice], seed: int) -> None:
    services = [make_service(f"s{n}") for n in range(3)]
    first = compile_snapshot("gateway", routes, EndpointIndex(services, slices))
    shuffle = random.Random(seed).sample
    again = compile_snapshot(
        "gateway", shuffle(routes, len(routes)), EndpointIndex(shuffle(services, 3), shuffle(slices, len(slices)))
    )
    assert first.revision == again.revision
    assert first.route_statuses == again.route_statuses
    assert first.render_document(3) == again.render_document(3)


@given(ROUTES, SLICES)
def test_every_path_has_one_owner_who_is_the_oldest_that_was_accepted_and_the_gateway_reads_it(
    routes: list[Resource], slices: list[EndpointSlice]
) -> None:
    found = compile_snapshot("gateway", routes, EndpointIndex([make_service(f"s{n}") for n in range(3)], slices))
    snapshot = parse_snapshot(found.render_document(1))
    owners: dict[tuple[Any, ...], str] = {}
    for rule in snapshot.routes:
        for method in rule.methods or ALL_METHODS:
            match = (rule.host, rule.path_prefix, rule.path_exact, rule.paths_from and rule.service, method)
            assert match not in owners
            owners[match] = rule.service
    accepted = {route.key.name: list_conditions(found, route)[ACCEPTED][0] for route in routes}
    assert {rule.service for rule in snapshot.routes} == {
        route.key.name for route in routes if accepted[route.key.name] and route.spec["routes"]
    }
    for route in routes:
        conflict = found.route_statuses[route.key].conflict
        if conflict:
            winner = next(other for other in routes if other.key.namespaced_name == conflict)
            assert accepted[winner.key.name]
            assert (winner.created_at, winner.key.namespaced_name) < (
                route.created_at,
                route.key.namespaced_name,
            )
    assert snapshot.services.keys() == {route.key.name for route in routes}


@given(SLICES)
def test_only_what_changes_a_resources_content_changes_its_hash(slices: list[EndpointSlice]) -> None:
    routes = [make_route(f"s{n}", {"pathsFrom": "OpenAPI"}) for n in range(3)]
    services = [make_service(f"s{n}") for n in range(3)]
    before = compile_snapshot("gateway", routes, EndpointIndex(services))
    after = compile_snapshot("gateway", routes, EndpointIndex(services, slices))
    for route in routes:
        same = before.content["services"][route.key.name] == after.content["services"][route.key.name]
        assert (before.route_statuses[route.key].content_hash == after.route_statuses[route.key].content_hash) == same


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"revision":"sha256:0","sequence":1}', "not json"])
def test_what_somebody_else_wrote_into_the_config_map_is_no_snapshot(raw: str) -> None:
    assert parse_revision(raw) is None
