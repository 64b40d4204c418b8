"""Discovery for processes on one machine: each writes the URL that it listens on into the bus's database."""

import time
from collections.abc import Collection

from sqlalchemy import bindparam, delete

from caravan.database import Database
from caravan.database.bus_tables import ServiceAddress
from caravan.database.query import Query
from caravan.database.tables import col
from caravan.discovery.endpoints import Endpoint, EndpointPool
from caravan.discovery.protocol import Discovery
from caravan.errors import ServiceUnavailable
from caravan.telemetry import log

_EXPIRE_AFTER_SECONDS = 10
_CACHE_SECONDS = 1.0
_DELETE_URL = Query(delete(ServiceAddress).where(col(ServiceAddress.url) == bindparam("url")))


class DatabaseDiscovery(Discovery):
    """Processes of one machine on any port: each writes where it listens, and keeps the row fresh."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pools: dict[str, EndpointPool] = {}
        self._refreshed_at = -_CACHE_SECONDS
        self._reported_missing: set[str] = set()
        """Services that were looked for and not found, so that each is logged once."""

    async def _refresh_pools(self) -> None:
        if time.monotonic() - self._refreshed_at < _CACHE_SECONDS:
            return
        rows = await self._database.fetch(
            "SELECT service, array_agg(url ORDER BY url) FROM registry WHERE seen_at > now() - make_interval(secs => "
            "$1) GROUP BY service",
            _EXPIRE_AFTER_SECONDS,
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

    async def list_endpoints(self, service: str) -> list[Endpoint]:
        await self._refresh_pools()
        pool = self._pools.get(service)
        return pool.list_endpoints() if pool else []

    async def register_services(self, services: list[str], url: str) -> None:
        await self._database.fetch(
            "INSERT INTO registry SELECT s, $2, now() FROM unnest($1::text[]) s ON CONFLICT (service, url) DO UPDATE "
            "SET seen_at = now()",
            services,
            url,
        )

    async def deregister_url(self, url: str) -> None:
        await _DELETE_URL.execute(self._database, url=url)
