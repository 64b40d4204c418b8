"""Compiles all ServiceRoutes of a gateway and the endpoints of their services into one routing snapshot
(docs/reference/service-discovery.md), with conditions for each route.

The result doesn't depend on the order of the input: of two resources with one path the older has it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.durations import parse_seconds
from caravan_operator.reconcile.endpoint_index import Endpoint, EndpointIndex
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import ACCEPTED, ENDPOINTS_AVAILABLE, RESOLVED_REFS, Condition
from caravan_operator.status.reasons import Reason

SCHEMA = "routing.caravan.dev/v1"
MAX_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, names and all."""

ALL_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

RouteMatch = tuple[str, str, str, str]
"""Host, kind of path, path, method: what only one resource may have."""


@dataclass(frozen=True, slots=True)
class RouteStatus:
    conditions: tuple[Condition, ...]
    endpoints: Mapping[str, int]
    content_hash: str
    conflict: str | None


@dataclass(frozen=True, slots=True)
class CompiledSnapshot:
    content: Mapping[str, Any]
    revision: str
    route_statuses: Mapping[Key, RouteStatus]

    def render_document(self, sequence: int) -> bytes:
        """The snapshot as it is published."""
        return encode_canonical({**self.content, "revision": self.revision, "sequence": sequence})


def compile_snapshot(gateway: str, resources: Iterable[Resource], endpoint_index: EndpointIndex) -> CompiledSnapshot:
    owners: dict[RouteMatch, Resource] = {}
    services: dict[str, Any] = {}
    routes: list[dict[str, Any]] = []
    route_statuses: dict[Key, RouteStatus] = {}
    active_resources = (resource for resource in resources if resource.deleted_at is None)
    for resource in sorted(active_resources, key=lambda each: (each.created_at, each.key.namespaced_name)):
        acceptance, conflict = _reserve_matches(resource, owners)
        endpoints, resolution = _resolve_endpoints(resource, endpoint_index)
        entry = _build_service_entry(resource.spec, endpoints)
        public_routes = (
            [_build_route(resource, index) for index in range(len(_list_routes(resource)))] if acceptance.status else []
        )
        services[resource.key.name] = entry
        routes += public_routes
        route_statuses[resource.key] = RouteStatus(
            (acceptance, resolution, _build_endpoints_condition(endpoints, resolution)),
            _count_endpoints(endpoints),
            hash_document({"entry": entry, "routes": public_routes}),
            conflict,
        )
    content = {"schema": SCHEMA, "gateway": gateway, "services": services, "routes": routes}
    return CompiledSnapshot(content, hash_document(content), route_statuses)


def parse_revision(raw: str) -> tuple[str, int] | None:
    """Revision and sequence of a published snapshot; None when it isn't one as we write it."""
    try:
        document = json.loads(raw)
        revision, sequence = document.pop("revision"), document.pop("sequence")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (revision, sequence) if revision == hash_document(document) and isinstance(sequence, int) else None


def encode_canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_document(document: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(encode_canonical(document)).hexdigest()


def _list_routes(resource: Resource) -> list[Mapping[str, Any]]:
    return list(resource.spec.get("routes") or ())


def _reserve_matches(resource: Resource, owners: dict[RouteMatch, Resource]) -> tuple[Condition, str | None]:
    """Take the resource's paths, all or none."""
    own_matches: dict[RouteMatch, int] = {}
    for index, route in enumerate(_list_routes(resource)):
        for route_match in _list_matches(resource, route):
            if route_match in own_matches:
                message = (
                    f"routes[{index}] says again what routes[{own_matches[route_match]}] says: "
                    f"{_describe_match(route_match)}"
                )
                return Condition(ACCEPTED, False, Reason.INVALID, message), None
            if route_match in owners:
                other = owners[route_match].key.namespaced_name
                message = (
                    f"{_describe_match(route_match)} belongs to the older ServiceRoute {other}; none of the paths "
                    "here is public"
                )
                return Condition(ACCEPTED, False, Reason.CONFLICT, message), other
            own_matches[route_match] = index
    owners.update(dict.fromkeys(own_matches, resource))
    return Condition(ACCEPTED, True, Reason.ACCEPTED), None


def _list_matches(resource: Resource, route: Mapping[str, Any]) -> list[RouteMatch]:
    host = route.get("host", "")
    path_type = next(name for name in ("pathPrefix", "pathExact", "pathsFrom") if name in route)
    path = resource.key.name if path_type == "pathsFrom" else route[path_type]
    return [(host, path_type, path, method) for method in route.get("methods") or ALL_METHODS]


def _describe_match(route_match: RouteMatch) -> str:
    host, path_type, path, method = route_match
    paths = "what OpenAPI declares" if path_type == "pathsFrom" else path
    return f"{method} {host}{paths}{' and below' if path_type == 'pathPrefix' else ''}"


def _resolve_endpoints(resource: Resource, endpoint_index: EndpointIndex) -> tuple[list[Endpoint], Condition]:
    ref = resource.spec["serviceRef"]
    service = endpoint_index.get_service(ref["name"])
    if service is None:
        message = f"there is no Service {resource.key.namespace}/{ref['name']}"
        return [], Condition(RESOLVED_REFS, False, Reason.SERVICE_NOT_FOUND, message)
    if service.is_external:
        message = f"Service {service.name} is of type ExternalName and has no endpoints to follow"
        return [], Condition(RESOLVED_REFS, False, Reason.SERVICE_UNSUPPORTED, message)
    port = service.find_port(ref.get("port"))
    if port is None:
        offered_ports = ", ".join(f"{name or '(no name)'}={number}" for name, number in service.ports) or "none"
        problem = (
            f"no port {ref['port']}" if "port" in ref else "more than one port, or none: name one in serviceRef.port"
        )
        return [], Condition(
            RESOLVED_REFS,
            False,
            Reason.PORT_NOT_FOUND,
            f"Service {service.name} has {problem}; it offers {offered_ports}",
        )
    return endpoint_index.list_endpoints(service, port), Condition(RESOLVED_REFS, True, Reason.RESOLVED)


def _build_endpoints_condition(endpoints: list[Endpoint], resolution: Condition) -> Condition:
    if any(endpoint.ready for endpoint in endpoints):
        return Condition(ENDPOINTS_AVAILABLE, True, Reason.FOUND)
    serving = sum(endpoint.serving for endpoint in endpoints)
    if serving:
        message = f"no endpoint is ready; requests go to the {serving} that still serve"
    else:
        message = resolution.message or "no endpoint is ready; requests are answered with 503"
    return Condition(ENDPOINTS_AVAILABLE, False, Reason.NO_ENDPOINTS, message)


def _count_endpoints(endpoints: list[Endpoint]) -> dict[str, int]:
    return {
        "ready": sum(endpoint.ready for endpoint in endpoints),
        "serving": sum(endpoint.serving for endpoint in endpoints),
        "terminating": sum(endpoint.terminating for endpoint in endpoints),
    }


def _build_service_entry(spec: Mapping[str, Any], endpoints: list[Endpoint]) -> dict[str, Any]:
    """With all defaults filled in: a newer operator may have others, and the gateway needs none of its own."""
    timeouts, retry = spec.get("timeouts") or {}, spec.get("retry") or {}
    breaker, limits = spec.get("circuitBreaker") or {}, spec.get("limits") or {}
    fields = ("address", "port", "ready", "serving", "terminating")
    request = parse_seconds(timeouts.get("request", "10s"))
    return {
        "endpoints": [{name: getattr(endpoint, name) for name in fields} for endpoint in endpoints],
        "timeouts": {
            "request": request,
            "backendRequest": parse_seconds(timeouts["backendRequest"]) if "backendRequest" in timeouts else request,
            "connect": parse_seconds(timeouts.get("connect", "500ms")),
        },
        "retry": {
            "attempts": retry.get("attempts", 2),
            "backoff": parse_seconds(retry.get("backoff", "50ms")),
            "codes": sorted(retry.get("codes", (502, 503, 504))),
            "methods": sorted(retry.get("methods", ("GET", "HEAD"))),
            "budgetPercent": retry.get("budgetPercent", 20),
            "unsent": True,
        },
        "circuitBreaker": {
            "window": parse_seconds(breaker.get("window", "10s")),
            "minRequests": breaker.get("minRequests", 20),
            "failureRatio": breaker.get("failureRatio", 0.5),
            "consecutiveFailures": breaker.get("consecutiveFailures", 5),
            "openFor": parse_seconds(breaker.get("openFor", "15s")),
            "halfOpenProbes": breaker.get("halfOpenProbes", 3),
            "maxEjectionPercent": breaker.get("maxEjectionPercent", 50),
        },
        "limits": {"maxInFlight": limits.get("maxInFlight")},
        "loadBalancing": spec.get("loadBalancing", "LeastRequest"),
    }


def _build_route(resource: Resource, index: int) -> dict[str, Any]:
    spec = _list_routes(resource)[index]
    limit = spec.get("rateLimit")
    names = ("host", "pathPrefix", "pathExact", "pathsFrom", "rewritePrefix")
    return {
        "name": f"{resource.key.namespaced_name}/{index}",
        "service": resource.key.name,
        **{name: spec[name] for name in names if name in spec},
        "methods": sorted(spec.get("methods", ())),
        "auth": spec.get("auth", "Optional"),
        "rateLimit": limit
        and {
            "requests": limit["requests"],
            "period": max(1, round(parse_seconds(limit["period"]))),
            "key": limit.get("key", "User"),
        },
    }
