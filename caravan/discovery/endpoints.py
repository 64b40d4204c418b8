"""The endpoints of a service, and the choice of one for the next request."""

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from caravan.discovery.breaker import Breaker
from caravan.discovery.routing_snapshot import Policy
from caravan.errors import CapacityExceeded, ServiceUnavailable
from caravan.telemetry.metrics import ENDPOINT_EJECTIONS

UNREACHED_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Endpoint:
    """One that `acquire_endpoint` returned is in use until `release`; balancing, draining and ejection count by it."""

    url: str
    breaker: Breaker
    can_eject: Callable[[], bool]
    in_flight: int = 0
    unreachable_at: float = float("-inf")
    """When no connection could be made the last time."""

    def try_acquire(self) -> bool:
        """Whether a request may go there now; then it counts as in flight until `release`."""
        is_allowed = self.breaker.allow_call()
        self.in_flight += is_allowed
        return is_allowed

    def release(self, *, has_failed: bool | None, was_reached: bool = True) -> None:
        """`has_failed`: whether the endpoint did; None when unknown, such as when the caller has gone."""
        self.in_flight -= 1
        if not was_reached:
            self.unreachable_at = self.breaker.time()
        if has_failed is False:
            self.breaker.record_success()
        elif has_failed and (self.breaker.state != "closed" or self.can_eject()):
            self.breaker.record_failure()
        else:
            self.breaker.record_cancelled()


@dataclass(slots=True)
class EndpointPool:
    """The endpoints of one service. One that leaves while it is in use ends what it has begun; one that stays keeps its
    failures.
    """

    service: str
    now: Callable[[], float] = time.monotonic
    policy: Policy = field(default_factory=Policy)
    _endpoints: dict[str, Endpoint] = field(default_factory=dict)
    _next_index: int = 0

    def update_endpoints(self, urls: Iterable[str], policy: Policy | None = None) -> None:
        self.policy = policy or self.policy
        self._endpoints = {url: self._endpoints.get(url) or self._create_endpoint(url) for url in dict.fromkeys(urls)}
        for endpoint in self._endpoints.values():
            endpoint.breaker.configure(self.policy.circuit_breaker)

    def acquire(self, tried_urls: Collection[str] = ()) -> Endpoint:
        """An endpoint that was not tried if there is one. Raises ServiceUnavailable when there is none at all."""
        limit = self.policy.limits.max_in_flight
        if limit is not None and sum(endpoint.in_flight for endpoint in self._endpoints.values()) >= limit:
            raise CapacityExceeded(
                f"{self.service} has {limit} requests in hand from here, which is its limit; try again"
            )
        if not tried_urls:
            self._next_index += 1
        for endpoint in sorted(
            self._rotate_endpoints(), key=lambda endpoint: self._rank_endpoint(endpoint, tried_urls)
        ):
            if endpoint.try_acquire():
                return endpoint
        raise ServiceUnavailable(f"{self.service} is not {'sound' if self._endpoints else 'ready'} now; try again")

    def list_urls(self) -> set[str]:
        return set(self._endpoints)

    def list_endpoints(self) -> list[Endpoint]:
        return list(self._endpoints.values())

    def _rank_endpoint(self, endpoint: Endpoint, tried_urls: Collection[str]) -> tuple[bool, bool, int]:
        """One that could not be reached a moment ago comes after the others: having the fewest requests open, it would
        come first.
        """
        is_unreachable = self.now() - endpoint.unreachable_at < UNREACHED_SECONDS
        return (
            endpoint.url in tried_urls,
            is_unreachable,
            endpoint.in_flight if self.policy.load_balancing == "LeastRequest" else 0,
        )

    def _rotate_endpoints(self) -> list[Endpoint]:
        """Equals take turns."""
        endpoints = list(self._endpoints.values())
        first = self._next_index % max(1, len(endpoints))
        return endpoints[first:] + endpoints[:first]

    def _create_endpoint(self, url: str) -> Endpoint:
        return Endpoint(url, Breaker(self.now, on_change=self._count_ejection), self._can_eject)

    def _count_ejection(self, state: str) -> None:
        if state == "open":
            ENDPOINT_EJECTIONS.labels(self.service).inc()

    def _can_eject(self) -> bool:
        """A part of the endpoints may be left out, never all at once: when everything fails, the fault is elsewhere,
        and the service's own breaker says so.
        """
        ejected = sum(endpoint.breaker.state != "closed" for endpoint in self._endpoints.values())
        return ejected < len(self._endpoints) * self.policy.circuit_breaker.max_ejection_percent // 100
