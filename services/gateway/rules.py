"""Which service a path belongs to when a routing snapshot says what is public: its routes, for lookup, beside what the services' own documents declare."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

from caravan.http import Scope
from caravan.snapshot import MAX_PATH
from caravan.snapshot import Route as Rule
from services.gateway.routing import OWN, Route, forwardable

UNRULED = Rule(name="declared", service=OWN, paths_from="OpenAPI")
"""For services that share the process, and for all where there is no snapshot: whatever they declare, as they declare it."""


@dataclass(frozen=True, slots=True)
class Match:
    """`template`: what the metrics and the limits call it."""

    template: str
    service: str
    rule: Rule = UNRULED
    methods: Collection[str] = ()
    """Of all services together."""


class Rules:
    def __init__(self, rules: Iterable[Rule]) -> None:
        self._exact: dict[str, list[Rule]] = defaultdict(list)
        self._prefixes: dict[str, list[Rule]] = defaultdict(list)
        self._declared: dict[str, list[Rule]] = defaultdict(list)
        # Of two for one path, the one for this host wins, then the one for this method; sorting is stable, so then the first.
        for rule in sorted(rules, key=lambda rule: (rule.host is None, not rule.methods)):
            if rule.path_exact is not None:
                self._exact[rule.path_exact].append(rule)
            elif rule.path_prefix is not None:
                self._prefixes[rule.path_prefix].append(rule)
            else:
                self._declared[rule.service].append(rule)

    def resolve(self, declared: Route | None, path: str, method: str, host: str) -> Match | None:
        """`declared`: what the services' documents say of the path. It yields to a rule that names at least as much of it, word by word."""
        service = declared.service(method) if declared else ""
        by_path = self._by_path(path, method, host)
        if declared and (by_path is None or _literal(declared.template) > _literal(_place(by_path))):
            for rule in self._declared.get(service, ()):
                if _admits(rule, method, host):
                    return Match(declared.template, service, rule, declared.by_method)
        if by_path is None or not forwardable(_rewritten(by_path, path)):
            return None
        template = declared.template if declared and service == by_path.service else _place(by_path)
        return Match(template, by_path.service, by_path)

    def declares(self, service: str, method: str) -> bool:
        """Whether what a service's document says of this method counts."""
        return any(_admits(rule, method, rule.host or "") for rule in self._declared.get(service, ()))

    def public(self, service: str, path: str, method: str) -> Iterator[str]:
        """The public paths, on any host, of an operation that a service declares at `path`."""
        if self.declares(service, method):
            yield path
        for rules in (*self._exact.values(), *self._prefixes.values()):
            for rule in rules:
                below = rule.rewrite_prefix or _place(rule)
                if rule.service == service and _admits(rule, method, rule.host or "") and _within(path, below, rule.path_exact is not None):
                    yield _place(rule).rstrip("/") + path[len(below.rstrip("/")) :] if rule.rewrite_prefix else path

    def _by_path(self, path: str, method: str, host: str) -> Rule | None:
        """The exact one, else the longest prefix of whole segments."""
        candidates = list(self._exact.get(path, ()))
        if self._prefixes:
            end = len(path) if len(path) <= MAX_PATH else path.rfind("/", 0, MAX_PATH + 1)
            while end > 0:
                candidates += self._prefixes.get(path[:end], ())
                end = path.rfind("/", 0, end)
            candidates += self._prefixes.get("/", ())
        return next((rule for rule in candidates if _admits(rule, method, host)), None)


def rewritten(rule: Rule, scope: Scope) -> Scope:
    """The request as the service gets it."""
    if rule.rewrite_prefix is None:
        return scope
    path = _rewritten(rule, scope["path"])
    raw: bytes = (scope.get("raw_path") or quote(scope["path"]).encode()).partition(b"?")[0]
    prefix = _place(rule).rstrip("/").encode()
    # A client may have escaped letters of the prefix; then the path is escaped anew as a whole.
    kept = rule.rewrite_prefix.rstrip("/").encode() + raw[len(prefix) :] if raw.startswith(prefix) else b""
    return {**scope, "path": path, "raw_path": kept if kept.startswith(b"/") else quote(path).encode()}


def _rewritten(rule: Rule, path: str) -> str:
    if rule.rewrite_prefix is None:
        return path
    return rule.rewrite_prefix.rstrip("/") + path[len(_place(rule).rstrip("/")) :] or "/"


def _place(rule: Rule) -> str:
    return rule.path_exact or rule.path_prefix or ""


def _admits(rule: Rule, method: str, host: str) -> bool:
    return (not rule.methods or method in rule.methods) and (rule.host is None or rule.host == host)


def _within(path: str, below: str, exact: bool) -> bool:
    return path == below or (not exact and path.startswith(below.rstrip("/") + "/"))


def _literal(path: str) -> int:
    """How many segments are given word by word, from the left."""
    count = 0
    for segment in path.split("/")[1:]:
        if not segment or "{" in segment:
            break
        count += 1
    return count
