"""Which service has a path: the path templates of all OpenAPI documents, compiled into a trie of segments."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from caravan.health import PATHS
from services.gateway.known_services import list_known_services

METHODS = frozenset({"get", "put", "post", "delete", "options", "head", "patch", "trace"})
OWN_SERVICE = "gateway"
INTERNAL_PATHS = PATHS | {"/openapi.json"}
"""What every service serves for its cluster, not for clients."""
DOT_SEGMENTS = frozenset({".", ".."})

ROOT_OWNERS = {
    ".well-known": {"identity"},
    "audit": {"analytics"},
    "auth": {"identity"},
    "campaigns": {"notifications"},
    "categories": {"catalog"},
    "dashboard": {"analytics"},
    "notifications": {"notifications"},
    "orders": {"orders", "payments"},
    "payments": {"payments"},
    "products": {"catalog", "recommendations"},
    "recommendations": {"recommendations"},
    "reports": {"analytics"},
    "shipments": {"shipping"},
    "stock": {"inventory"},
    "users": {"identity", "notifications"},
}
"""Whose the paths are that begin so, known before any service has been reached; a test compares them with what the
services declare. A service that is not named here has those that begin with its own name.
"""
_OTHER_ROOTS = list_known_services() - {OWN_SERVICE}.union(*ROOT_OWNERS.values())


def find_root_owners(root: str) -> set[str]:
    return ROOT_OWNERS.get(root) or {root} & _OTHER_ROOTS


def extract_root(path: str) -> str:
    """The first word of a path, after the version of the API."""
    words = path.split("/", 3)[1:]
    return words[1] if len(words) > 1 and words[0] == "v1" else "".join(words[:1])


@dataclass(slots=True)
class DeclaredRoute:
    """A template and the service of each method. A method that none declares goes to the first service, which says
    405.
    """

    template: str
    default_service: str
    services_by_method: dict[str, str] = field(default_factory=dict)

    def choose_service(self, method: str) -> str:
        return self.services_by_method.get(method, self.default_service)


@dataclass(slots=True)
class _Node:
    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    route: DeclaredRoute | None = None


class Trie:
    """Of the templates that match, the one wins that is literal where the others, read from the left, first have a
    parameter.
    """

    def __init__(self, routes: Iterable[tuple[str, str, str]]) -> None:
        """`declared`: template, method and service; the first one of a template and method wins."""
        self.routes: dict[str, DeclaredRoute] = {}
        self._root = _Node()
        for template, method, service in routes:
            route = self.routes.get(template)
            if route is None:
                route = self.routes[template] = DeclaredRoute(template, service)
                route = self._insert_route(template, route)
            route.services_by_method.setdefault(method, service)

    def _insert_route(self, template: str, route: DeclaredRoute) -> DeclaredRoute:
        """Templates that differ in the names of their parameters only are one route."""
        node = self._root
        for segment in template.split("/")[1:]:
            if "{" in segment:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.route is None:
            node.route = route
        else:
            self.routes[template] = node.route
        return node.route

    def find_route(self, path: str) -> DeclaredRoute | None:
        return (
            self.routes.get(path)
            if "{" not in path and path in self.routes
            else _find_in_node(self._root, path.split("/"), 1)
        )


def _find_in_node(node: _Node, segments: list[str], index: int) -> DeclaredRoute | None:
    if index == len(segments):
        return node.route
    segment = segments[index]
    literal = node.literals.get(segment)
    route = _find_in_node(literal, segments, index + 1) if literal else None
    # A dot segment is never a parameter's value: an HTTP client on the way would take it for a step upwards.
    if route is None and node.parameter is not None and segment not in ("", ".", ".."):
        route = _find_in_node(node.parameter, segments, index + 1)
    return route


def is_forwardable(path: str) -> bool:
    """Whether clients may reach a service at this path. A dot segment is a step upwards to an HTTP client on the
    way.
    """
    return path not in INTERNAL_PATHS and not path.startswith("/internal/") and not DOT_SEGMENTS & set(path.split("/"))


def iterate_declared_routes(service: str, document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Template, method and service of each operation in a service's OpenAPI document that clients may reach."""
    for template, item in document.get("paths", {}).items():
        if service == OWN_SERVICE or is_forwardable(template):
            for method in METHODS & item.keys():
                yield template, method.upper(), service
