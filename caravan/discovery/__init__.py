"""Who lives where: by a name pattern (`http://{service}:8080`), or, for processes on one machine, by what each wrote
into the bus's database.

`caravan/discovery/snapshot.py` has the third way: what the operator says.
"""

import time
from collections.abc import Callable, Collection
from typing import Protocol

from caravan.database import Database
from caravan.discovery.endpoints import Endpoint, EndpointPool
from caravan.discovery.routing_snapshot import Policy, Retry, Snapshot
from caravan.errors import ServiceUnavailable
from caravan.telemetry import log

HEARTBEAT_SECONDS = 3.0
EXPIRE_AFTER_SECONDS = 10
CACHE_SECONDS = 1.0

DEFAULT_POLICY = Policy(retry=Retry(unsent=True))


class Discovery(Protocol):
    """What has a body here is what a source says that knows addresses only."""

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        """Where the next request to a service goes, if possible not to the URLs `tried`. The endpoint is in use until
        its `ended` is called.

        Raises Unavailable when nobody serves it."""

    async def list_services(self) -> set[str]:
        """The services that can be located now; empty when that can't be known."""

    def get_policy(self, service: str) -> Policy:
        return DEFAULT_POLICY

    @property
    def current_snapshot(self) -> Snapshot | None:
        """The routing snapshot in force: it alone says what is public. None: each service's own OpenAPI document says
        it.
        """
        return None

    def add_change_listener(self, listener: Callable[[], None]) -> None:
        """Have `tell` called whenever another snapshot is in force."""
        return

    def get_status(self) -> dict[str, object] | None:
        """Which snapshot is in force and how its sources are; None where there are none."""
        return None

    async def watch_changes(self) -> None:
        """Keep up with what changes, until cancelled."""
        return

    async def register_services(self, services: list[str], url: str) -> None:
        """Tell others where these services are; nothing to do where the platform knows."""
        return

    async def deregister_url(self, url: str) -> None:
        """Take that back."""
        return


class DnsDiscovery(Discovery):
    """Names resolve outside: compose and cluster."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._pools: dict[str, EndpointPool] = {}

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = EndpointPool(service)
            pool.update_endpoints([self._pattern.replace("{service}", service)])
        return pool.acquire(tried_urls)

    async def list_services(self) -> set[str]:
        return set()


class DatabaseDiscovery(Discovery):
    """Processes of one machine on any port: each writes where it listens, and keeps the row fresh."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pools: dict[str, EndpointPool] = {}
        self._refreshed_at = -CACHE_SECONDS
        self._reported_missing: set[str] = set()
        """Services that were looked for and not found, so that each is told of once."""

    async def _refresh_pools(self) -> None:
        if time.monotonic() - self._refreshed_at < CACHE_SECONDS:
            return
        rows = await self._database.fetch(
            "SELECT service, array_agg(url ORDER BY url) FROM registry WHERE seen_at > now() - make_interval(secs => "
            "$1) GROUP BY service",
            EXPIRE_AFTER_SECONDS,
        )
        self._pools = {row[0]: self._pools.get(row[0]) or EndpointPool(row[0]) for row in rows}
        for service, urls in rows:
            self._pools[service].update_endpoints(urls)
        self._reported_missing -= self._pools.keys()
        self._refreshed_at = time.monotonic()

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        await self._refresh_pools()
        pool = self._pools.get(service)
        if pool is None:
            if service not in self._reported_missing:
                self._reported_missing.add(service)
                log.warning(f"no process serves {service}; start one with `caravan run {service}`")
            raise ServiceUnavailable(f"{service} is not available now; try again", retry_after=2)
        return pool.acquire(tried_urls)

    async def list_services(self) -> set[str]:
        await self._refresh_pools()
        return set(self._pools)

    async def register_services(self, services: list[str], url: str) -> None:
        await self._database.fetch(
            "INSERT INTO registry SELECT s, $2, now() FROM unnest($1::text[]) s ON CONFLICT (service, url) DO UPDATE "
            "SET seen_at = now()",
            services,
            url,
        )

    async def deregister_url(self, url: str) -> None:
        await self._database.fetch("DELETE FROM registry WHERE url = $1", url)
