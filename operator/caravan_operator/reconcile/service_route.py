"""From all ServiceRoutes of a gateway, and the endpoints that there are, to one routing snapshot (docs/service-discovery.md) and a verdict on each.

Pure, and the same whatever order things come in: of two resources with one path the older has it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from caravan_operator.reconcile.durations import seconds
from caravan_operator.reconcile.places import Endpoint, Places
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import ACCEPTED, ENDPOINTS_AVAILABLE, RESOLVED_REFS, Condition
from caravan_operator.status.reasons import Reason

SCHEMA = "routing.caravan.dev/v1"
MAX_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, names and all."""

EVERY_METHOD = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

Claim = tuple[str, str, str, str]
"""Host, kind of path, path, method: what only one resource may have."""


@dataclass(frozen=True, slots=True)
class Verdict:
    conditions: tuple[Condition, ...]
    endpoints: Mapping[str, int]
    content_hash: str
    conflict: str | None


@dataclass(frozen=True, slots=True)
class Compiled:
    content: Mapping[str, Any]
    revision: str
    verdicts: Mapping[Key, Verdict]

    def document(self, sequence: int) -> bytes:
        """The snapshot as it is published."""
        return canonical({**self.content, "revision": self.revision, "sequence": sequence})


def compile_snapshot(gateway: str, resources: Iterable[Resource], places: Places) -> Compiled:
    owners: dict[Claim, Resource] = {}
    services: dict[str, Any] = {}
    routes: list[dict[str, Any]] = []
    verdicts: dict[Key, Verdict] = {}
    living = (resource for resource in resources if resource.deleted is None)
    for resource in sorted(living, key=lambda each: (each.created, each.key.path)):
        accepted, conflict = _claim(resource, owners)
        found, resolved = _resolve(resource, places)
        entry = _entry(resource.spec, found)
        public = [_route(resource, number) for number in range(len(_routes(resource)))] if accepted.status else []
        services[resource.key.name] = entry
        routes += public
        verdicts[resource.key] = Verdict(
            (accepted, resolved, _available(found, resolved)), _count(found), digest({"entry": entry, "routes": public}), conflict
        )
    content = {"schema": SCHEMA, "gateway": gateway, "services": services, "routes": routes}
    return Compiled(content, digest(content), verdicts)


def read(raw: str) -> tuple[str, int] | None:
    """Revision and sequence of a published snapshot; None when it isn't one as we write it."""
    try:
        document = json.loads(raw)
        revision, sequence = document.pop("revision"), document.pop("sequence")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return (revision, sequence) if revision == digest(document) and isinstance(sequence, int) else None


def canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(document: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(canonical(document)).hexdigest()


def _routes(resource: Resource) -> list[Mapping[str, Any]]:
    return list(resource.spec.get("routes") or ())


def _claim(resource: Resource, owners: dict[Claim, Resource]) -> tuple[Condition, str | None]:
    """Take the resource's paths, all or none."""
    mine: dict[Claim, int] = {}
    for number, route in enumerate(_routes(resource)):
        for claim in _claims(resource, route):
            if claim in mine:
                message = f"routes[{number}] says again what routes[{mine[claim]}] says: {_said(claim)}"
                return Condition(ACCEPTED, False, Reason.INVALID, message), None
            if claim in owners:
                other = owners[claim].key.path
                message = f"{_said(claim)} belongs to the older ServiceRoute {other}; none of the paths here is public"
                return Condition(ACCEPTED, False, Reason.CONFLICT, message), other
            mine[claim] = number
    owners.update(dict.fromkeys(mine, resource))
    return Condition(ACCEPTED, True, Reason.ACCEPTED), None


def _claims(resource: Resource, route: Mapping[str, Any]) -> list[Claim]:
    host = route.get("host", "")
    kind = next(name for name in ("pathPrefix", "pathExact", "pathsFrom") if name in route)
    path = resource.key.name if kind == "pathsFrom" else route[kind]
    return [(host, kind, path, method) for method in route.get("methods") or EVERY_METHOD]


def _said(claim: Claim) -> str:
    host, kind, path, method = claim
    return f"{method} {host}{'what OpenAPI declares' if kind == 'pathsFrom' else path}{' and below' if kind == 'pathPrefix' else ''}"


def _resolve(resource: Resource, places: Places) -> tuple[list[Endpoint], Condition]:
    ref = resource.spec["serviceRef"]
    service = places.service(ref["name"])
    if service is None:
        message = f"there is no Service {resource.key.namespace}/{ref['name']}"
        return [], Condition(RESOLVED_REFS, False, Reason.SERVICE_NOT_FOUND, message)
    if service.external:
        message = f"Service {service.name} is of type ExternalName and has no endpoints to follow"
        return [], Condition(RESOLVED_REFS, False, Reason.SERVICE_UNSUPPORTED, message)
    port = service.port(ref.get("port"))
    if port is None:
        offered = ", ".join(f"{name or '(no name)'}={number}" for name, number in service.ports) or "none"
        wanted = f"no port {ref['port']}" if "port" in ref else "more than one port, or none: name one in serviceRef.port"
        return [], Condition(RESOLVED_REFS, False, Reason.PORT_NOT_FOUND, f"Service {service.name} has {wanted}; it offers {offered}")
    return places.endpoints(service, port), Condition(RESOLVED_REFS, True, Reason.RESOLVED)


def _available(found: list[Endpoint], resolved: Condition) -> Condition:
    if any(endpoint.ready for endpoint in found):
        return Condition(ENDPOINTS_AVAILABLE, True, Reason.FOUND)
    serving = sum(endpoint.serving for endpoint in found)
    if serving:
        message = f"no endpoint is ready; requests go to the {serving} that still serve"
    else:
        message = resolved.message or "no endpoint is ready; requests are answered with 503"
    return Condition(ENDPOINTS_AVAILABLE, False, Reason.NO_ENDPOINTS, message)


def _count(found: list[Endpoint]) -> dict[str, int]:
    return {
        "ready": sum(endpoint.ready for endpoint in found),
        "serving": sum(endpoint.serving for endpoint in found),
        "terminating": sum(endpoint.terminating for endpoint in found),
    }


def _entry(spec: Mapping[str, Any], found: list[Endpoint]) -> dict[str, Any]:
    """With every default filled in: a newer operator may have others, and the gateway needs none of its own."""
    timeouts, retry = spec.get("timeouts") or {}, spec.get("retry") or {}
    breaker, limits = spec.get("circuitBreaker") or {}, spec.get("limits") or {}
    states = ("address", "port", "ready", "serving", "terminating")
    request = seconds(timeouts.get("request", "10s"))
    return {
        "endpoints": [{name: getattr(endpoint, name) for name in states} for endpoint in found],
        "timeouts": {
            "request": request,
            "backendRequest": seconds(timeouts["backendRequest"]) if "backendRequest" in timeouts else request,
            "connect": seconds(timeouts.get("connect", "500ms")),
        },
        "retry": {
            "attempts": retry.get("attempts", 2),
            "backoff": seconds(retry.get("backoff", "50ms")),
            "codes": sorted(retry.get("codes", (502, 503, 504))),
            "methods": sorted(retry.get("methods", ("GET", "HEAD"))),
            "budgetPercent": retry.get("budgetPercent", 20),
            "unsent": True,
        },
        "circuitBreaker": {
            "window": seconds(breaker.get("window", "10s")),
            "minRequests": breaker.get("minRequests", 20),
            "failureRatio": breaker.get("failureRatio", 0.5),
            "consecutiveFailures": breaker.get("consecutiveFailures", 5),
            "openFor": seconds(breaker.get("openFor", "15s")),
            "halfOpenProbes": breaker.get("halfOpenProbes", 3),
            "maxEjectionPercent": breaker.get("maxEjectionPercent", 50),
        },
        "limits": {"maxInFlight": limits.get("maxInFlight")},
        "loadBalancing": spec.get("loadBalancing", "LeastRequest"),
    }


def _route(resource: Resource, number: int) -> dict[str, Any]:
    spec = _routes(resource)[number]
    limit = spec.get("rateLimit")
    names = ("host", "pathPrefix", "pathExact", "pathsFrom", "rewritePrefix")
    return {
        "name": f"{resource.key.path}/{number}",
        "service": resource.key.name,
        **{name: spec[name] for name in names if name in spec},
        "methods": sorted(spec.get("methods", ())),
        "auth": spec.get("auth", "Optional"),
        "rateLimit": limit
        and {"requests": limit["requests"], "period": max(1, round(seconds(limit["period"]))), "key": limit.get("key", "User")},
    }
