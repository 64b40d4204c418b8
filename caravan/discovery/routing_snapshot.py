"""The routing snapshot: what the operator compiled of services, endpoints and public routes, as one JSON document
(docs/reference/service-discovery.md).

A reader takes a document as a whole or not at all. Unknown fields are ignored, so that an operator may be newer than
its readers; a change that they must not ignore gets a new `schema`.
"""

import hashlib
import json
import re
from ipaddress import ip_address
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

SCHEMA: Literal["routing.caravan.dev/v1"] = "routing.caravan.dev/v1"
MAX_BYTES = 1024 * 1024
"""What a ConfigMap can hold."""

MAX_PATH_LENGTH = 256

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Seconds = Annotated[float, Field(gt=0, le=3600)]

_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")


class SnapshotError(ValueError):
    """The document can't be used; the text names the field and the rule."""


def _check_path(path: str) -> str:
    parts = path.split("/")
    if parts[0] or (
        path != "/" and not all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts[1:])
    ):
        raise ValueError("a path starts with / and has segments that are not empty, not dots, and need no escaping")
    return path


def _check_address(address: str) -> str:
    ip_address(address)
    return address


Path = Annotated[str, Field(max_length=MAX_PATH_LENGTH), AfterValidator(_check_path)]


class _SnapshotModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)


class EndpointEntry(_SnapshotModel):
    """One pod's port. The three states are those of an EndpointSlice: `serving` still answers while `terminating`;
    `ready` is serving and not terminating.
    """

    address: Annotated[str, AfterValidator(_check_address)]
    port: int = Field(ge=1, le=65535)
    ready: bool
    serving: bool
    terminating: bool

    @property
    def url(self) -> str:
        return f"http://[{self.address}]:{self.port}" if ":" in self.address else f"http://{self.address}:{self.port}"


class Timeouts(_SnapshotModel):
    """Seconds. `request`: until an answer begins, over all attempts; `backend_request`: the same for one attempt;
    absent: the caller's own setting.
    """

    request: Seconds | None = None
    backend_request: Seconds | None = None
    connect: Seconds = 1.0


class Retry(_SnapshotModel):
    """`attempts`: more of them after the first, each at another endpoint, for these methods and what these statuses
    answer. `unsent`: a request that no connection was made for has reached nobody, so one of any method is sent to
    another endpoint, at no charge to the budget.
    """

    attempts: int = Field(1, ge=0, le=5)
    backoff: float = Field(0.0, ge=0, le=60)
    codes: frozenset[int] = Field(frozenset(), max_length=10)
    methods: frozenset[Method] = frozenset({"GET", "HEAD"})
    budget_percent: int = Field(20, ge=0, le=100)
    unsent: bool = False


class CircuitBreaker(_SnapshotModel):
    """Of the service, and of each endpoint: one that fails is left out, as long as no more than `max_ejection_percent`
    of them are.
    """

    window: Seconds = 10.0
    min_requests: int = Field(20, ge=1, le=100_000)
    failure_ratio: float = Field(0.5, gt=0, le=1)
    consecutive_failures: int = Field(5, ge=1, le=1000)
    open_for: Seconds = 5.0
    half_open_probes: int = Field(3, ge=1, le=100)
    max_ejection_percent: int = Field(50, ge=0, le=100)


class Limits(_SnapshotModel):
    """`max_in_flight`: requests that one process has open at this service; absent: no bound but its connections."""

    max_in_flight: int | None = Field(None, ge=1, le=100_000)


class Policy(_SnapshotModel):
    """How a service is called. The defaults hold for services that no snapshot speaks of."""

    timeouts: Timeouts = Timeouts()
    retry: Retry = Retry()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    limits: Limits = Limits()
    load_balancing: Literal["LeastRequest", "RoundRobin"] = "LeastRequest"


class ServiceEntry(Policy):
    endpoints: tuple[EndpointEntry, ...] = Field((), max_length=5000)


class RateLimit(_SnapshotModel):
    """At most `requests` in `period` seconds, counted for each user (without a token: each address), for each address,
    or for all callers together.
    """

    requests: int = Field(ge=1, le=10_000_000)
    period: int = Field(ge=1, le=86_400)
    key: Literal["User", "Address", "Route"] = "User"


class Route(_SnapshotModel):
    """Which public paths go to a service: all below a prefix, one exactly, or those that its own OpenAPI document
    declares. No methods: all.
    """

    name: str = Field(max_length=320)
    service: str = Field(max_length=63)
    host: str | None = Field(None, max_length=253)
    path_prefix: Path | None = None
    path_exact: Path | None = None
    paths_from: Literal["OpenAPI"] | None = None
    methods: frozenset[Method] = frozenset()
    rewrite_prefix: Path | None = None
    auth: Literal["Required", "Optional", "None"] = "Optional"
    rate_limit: RateLimit | None = None

    @model_validator(mode="after")
    def _require_one_path(self) -> Self:
        if [self.path_prefix, self.path_exact, self.paths_from].count(None) != 2:
            raise ValueError("a route has exactly one of pathPrefix, pathExact and pathsFrom")
        if self.rewrite_prefix is not None and self.path_prefix is None:
            raise ValueError("rewritePrefix goes with pathPrefix")
        return self


class Snapshot(_SnapshotModel):
    """`sequence` grows with every change; `revision` is the hash of the content."""

    kind: Literal["routing.caravan.dev/v1"] = Field(SCHEMA, alias="schema")
    gateway: str
    sequence: int = Field(ge=1)
    revision: str
    services: dict[str, ServiceEntry] = Field(max_length=1000)
    routes: tuple[Route, ...] = Field(max_length=5000)

    @model_validator(mode="after")
    def _check_route_services(self) -> Self:
        for route in self.routes:
            if route.service not in self.services:
                raise ValueError(f"route {route.name} leads to {route.service}, which is not among the services")
        return self


def compute_revision(document: dict[str, Any]) -> str:
    """The hash of a snapshot's content: everything but when it was made."""
    content = {name: value for name, value in document.items() if name not in ("revision", "sequence")}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()


def parse_snapshot(raw: bytes) -> Snapshot:
    """Raises SnapshotError."""
    if len(raw) > MAX_BYTES:
        raise SnapshotError(f"{len(raw)} bytes; at most {MAX_BYTES} are read")
    try:
        document = json.loads(raw)
        revision = compute_revision(document) if isinstance(document, dict) else ""
    except (ValueError, RecursionError) as error:  # also of half a surrogate pair, which is JSON and no text
        raise SnapshotError(f"not JSON: {error}") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise SnapshotError(f"schema: not {SCHEMA}, the only one that this release reads")
    if document.get("revision") != revision:
        raise SnapshotError("revision: not the hash of the content; the document is damaged or cut off")
    try:
        return Snapshot.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise SnapshotError(f"{'.'.join(map(str, first['loc'])) or 'snapshot'}: {first['msg']}") from None
