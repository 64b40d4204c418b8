"""Service routes, Services and their slices, and what the reconciler makes of them: for the tests of ServiceRoute."""

from typing import Any

from caravan_operator.reconcile.endpoint_index import EndpointIndex, EndpointSlice, Service
from caravan_operator.reconcile.service_route import CompiledSnapshot, compile_snapshot
from caravan_operator.resources.resource import Resource

from tests.operator.resources import make_resource

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
