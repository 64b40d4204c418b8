"""Which service a path belongs to when a routing snapshot says what is public: its routes, for lookup, beside what the
services' own documents declare.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from caravan.discovery.routing_snapshot import MAX_PATH_LENGTH
from caravan.discovery.routing_snapshot import Route as Rule
from caravan.http import Scope
from services.gateway.routing.trie import OWN_SERVICE, DeclaredRoute, is_forwardable

DEFAULT_RULE = Rule(name="declared", service=OWN_SERVICE, paths_from="OpenAPI")
"""For services that share the process, and for all where there is no snapshot: whatever they declare, as they declare
it.
"""


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """`template`: what the metrics and the limits call it."""

    template: str
    service: str
    rule: Rule = DEFAULT_RULE
    methods: Collection[str] = ()
    """Of all services together."""


class RoutingRules:
    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[str, list[Rule]] = defaultdict(list)
        self._prefixes: dict[str, list[Rule]] = defaultdict(list)
        self._declared: dict[str, list[Rule]] = defaultdict(list)
        # Of two for one path, the one for this host wins, then the one for this method; sorting is stable, so then the
        # first.
        for rule in sorted(rules, key=lambda rule: (rule.host is None, not rule.methods)):
            if rule.path_exact is not None:
                self._exact[rule.path_exact].append(rule)
            elif rule.path_prefix is not None:
                self._prefixes[rule.path_prefix].append(rule)
            else:
                self._declared[rule.service].append(rule)

    def resolve_route(self, declared: DeclaredRoute | None, path: str, method: str, host: str) -> RouteMatch | None:
        """`declared`: what the services' documents say of the path. It yields to a rule that names at least as much of
        it, word by word.
        """
        service = declared.choose_service(method) if declared else ""
        path_rule = self._find_path_rule(path, method, host)
        if declared and (
            path_rule is None
            or _count_literal_segments(declared.template) > _count_literal_segments(_get_rule_path(path_rule))
        ):
            for rule in self._declared.get(service, ()):
                if _is_admitted(rule, method, host):
                    return RouteMatch(declared.template, service, rule, declared.services_by_method)
        if path_rule is None or not is_forwardable(_rewrite_path(path_rule, path)):
            return None
        template = declared.template if declared and service == path_rule.service else _get_rule_path(path_rule)
        return RouteMatch(template, path_rule.service, path_rule)

    def has_document_rule(self, service: str, method: str) -> bool:
        """Whether what a service's document says of this method counts."""
        return any(_is_admitted(rule, method, rule.host or "") for rule in self._declared.get(service, ()))

    def list_public_paths(self, service: str, path: str, method: str) -> Iterator[str]:
        """The public paths, on any host, of an operation that a service declares at `path`."""
        if self.has_document_rule(service, method):
            yield path
        for rules in (*self._exact.values(), *self._prefixes.values()):
            for rule in rules:
                below = rule.rewrite_prefix or _get_rule_path(rule)
                if (
                    rule.service == service
                    and _is_admitted(rule, method, rule.host or "")
                    and _is_below(path, below, rule.path_exact is not None)
                ):
                    yield (
                        _get_rule_path(rule).rstrip("/") + path[len(below.rstrip("/")) :]
                        if rule.rewrite_prefix
                        else path
                    )

    def _find_path_rule(self, path: str, method: str, host: str) -> Rule | None:
        """The exact one, else the longest prefix of whole segments."""
        candidates = list(self._exact.get(path, ()))
        if self._prefixes:
            end = len(path) if len(path) <= MAX_PATH_LENGTH else path.rfind("/", 0, MAX_PATH_LENGTH + 1)
            while end > 0:
                candidates += self._prefixes.get(path[:end], ())
                end = path.rfind("/", 0, end)
            candidates += self._prefixes.get("/", ())
        return next((rule for rule in candidates if _is_admitted(rule, method, host)), None)


def rewrite_scope(rule: Rule, scope: Scope) -> Scope:
    """The request as the service gets it."""
    if rule.rewrite_prefix is None:
        return scope
    path = _rewrite_path(rule, scope["path"])
    raw: bytes = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    prefix = _get_rule_path(rule).rstrip("/").encode()
    # A client may have escaped letters of the prefix; then the path is escaped anew as a whole.
    raw_path = rule.rewrite_prefix.rstrip("/").encode() + raw[len(prefix) :] if raw.startswith(prefix) else b""
    return {**scope, "path": path, "raw_path": raw_path if raw_path.startswith(b"/") else quote(path).encode()}


def _rewrite_path(rule: Rule, path: str) -> str:
    if rule.rewrite_prefix is None:
        return path
    return rule.rewrite_prefix.rstrip("/") + path[len(_get_rule_path(rule).rstrip("/")) :] or "/"


def _get_rule_path(rule: Rule) -> str:
    return rule.path_exact or rule.path_prefix or ""


def _is_admitted(rule: Rule, method: str, host: str) -> bool:
    return (not rule.methods or method in rule.methods) and (rule.host is None or rule.host == host)


def _is_below(path: str, parent: str, is_exact: bool) -> bool:
    return path == parent or (not is_exact and path.startswith(parent.rstrip("/") + "/"))


def _count_literal_segments(path: str) -> int:
    """How many segments are given word by word, from the left."""
    count = 0
    for segment in path.split("/")[1:]:
        if not segment or "{" in segment:
            break
        count += 1
    return count
