"""Where a service answers, and which of its endpoints the next request goes to."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from prometheus_client import Counter

from caravan.breaker import Breaker
from caravan.errors import Busy, Unavailable
from caravan.snapshot import Policy

UNREACHED_SECONDS = 1.0
EJECTIONS = Counter("caravan_endpoint_ejections_total", "Endpoints left out because they failed", ["target"])


@dataclass(slots=True, eq=False)
class Endpoint:
    """One that `locate` gave out is in use until `ended`: that is what spreading, draining and ejection count by."""

    url: str
    breaker: Breaker
    may_eject: Callable[[], bool]
    in_flight: int = 0
    unreached: float = float("-inf")
    """When no connection could be made the last time."""

    def ended(self, *, failed: bool | None, reached: bool = True) -> None:
        """`failed`: whether the endpoint did; None when nothing can be said, such as when the caller has gone."""
        self.in_flight -= 1
        if not reached:
            self.unreached = self.breaker.time()
        if failed is False:
            self.breaker.succeeded()
        elif failed and (self.breaker.state != "closed" or self.may_eject()):
            self.breaker.failed()
        else:
            self.breaker.gave_up()


@dataclass(slots=True)
class Pool:
    """The endpoints of one service. One that leaves while it is in use ends what it has begun; one that stays keeps its failures."""

    service: str
    now: Callable[[], float] = time.monotonic
    policy: Policy = field(default_factory=Policy)
    _endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _turn: int = 0

    def update(self, urls: Iterable[str], policy: Policy | None = None) -> None:
        self.policy = policy or self.policy
        self._endpoints = {url: self._endpoints.get(url) or self._new(url) for url in dict.fromkeys(urls)}
        for endpoint in self._endpoints.values():
            endpoint.breaker.follow(self.policy.circuit_breaker)

    def take(self, tried: Collection[str] = ()) -> Endpoint:
        """An endpoint that was not tried if there is one. Raises Unavailable when there is none at all."""
        limit = self.policy.limits.max_in_flight
        if limit is not None and sum(endpoint.in_flight for endpoint in self._endpoints.values()) >= limit:
            raise Busy(f"{self.service} has {limit} requests in hand from here, which is its limit; try again")
        if not tried:
            self._turn += 1
        for endpoint in sorted(self._rotated(), key=lambda endpoint: self._rank(endpoint, tried)):
            if endpoint.breaker.allow():
                endpoint.in_flight += 1
                return endpoint
        raise Unavailable(f"{self.service} is not {'sound' if self._endpoints else 'ready'} now; try again")

    def urls(self) -> set[str]:
        return set(self._endpoints)

    def _rank(self, endpoint: Endpoint, tried: Collection[str]) -> tuple[bool, bool, int]:
        """One that could not be reached a moment ago comes after the others: having the fewest requests open, it would come first."""
        unreached = self.now() - endpoint.unreached < UNREACHED_SECONDS
        return endpoint.url in tried, unreached, endpoint.in_flight if self.policy.load_balancing == "LeastRequest" else 0

    def _rotated(self) -> list[Endpoint]:
        """Equals take turns."""
        endpoints = list(self._endpoints.values())
        first = self._turn % max(1, len(endpoints))
        return endpoints[first:] + endpoints[:first]

    def _new(self, url: str) -> Endpoint:
        return Endpoint(url, Breaker(self.now, changed=self._changed), self._may_eject)

    def _changed(self, state: str) -> None:
        if state == "open":
            EJECTIONS.labels(self.service).inc()

    def _may_eject(self) -> bool:
        """A part of the endpoints may be left out, never all at once: when everything fails, the fault is elsewhere, and the service's own breaker says so."""
        out = sum(endpoint.breaker.state != "closed" for endpoint in self._endpoints.values())
        return out < len(self._endpoints) * self.policy.circuit_breaker.max_ejection_percent // 100
