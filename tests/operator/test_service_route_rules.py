"""What holds of every set of service routes, in whatever order they are seen."""

import random
from typing import Any

from caravan_operator.reconcile.endpoint_index import EndpointIndex, EndpointSlice
from caravan_operator.reconcile.service_route import ALL_METHODS, compile_snapshot
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED
from hypothesis import given
from hypothesis import strategies as st

from caravan.discovery.routing_snapshot import parse_snapshot
from tests.operator.service_routes import list_conditions, make_route, make_service, make_slice

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
