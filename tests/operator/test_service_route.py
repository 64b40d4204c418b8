"""Compiling a routing snapshot: tables for each rule, properties for the whole, and the gateway's own reader as the
reference for the form.
"""

from typing import Any

import pytest
from caravan_operator.reconcile.endpoint_index import EndpointIndex
from caravan_operator.reconcile.service_route import parse_revision
from caravan_operator.status.conditions import ACCEPTED, ENDPOINTS_AVAILABLE, RESOLVED_REFS

from caravan.discovery.routing_snapshot import parse_snapshot
from tests.operator.resources import START, make_resource
from tests.operator.service_routes import (
    DRAINING,
    READY,
    UNREADY,
    compile_routes,
    list_conditions,
    make_route,
    make_service,
    make_slice,
)


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


@pytest.mark.parametrize("raw", ["", "{}", "[]", '{"revision":"sha256:0","sequence":1}', "not json"])
def test_what_somebody_else_wrote_into_the_config_map_is_no_snapshot(raw: str) -> None:
    assert parse_revision(raw) is None
