"""Who lives where: by a name pattern (`http://{service}:8080`), or, for processes on one machine, by what each wrote into the bus's database.

`caravan/registry.py` has the third way: what the operator says.
"""

import time
from collections.abc import Callable, Collection
from typing import Protocol

from caravan.database import Database
from caravan.endpoints import Endpoint, Pool
from caravan.errors import Unavailable
from caravan.snapshot import Policy, Retry, Snapshot
from caravan.telemetry import log

HEARTBEAT_SECONDS = 3.0
GONE_AFTER_SECONDS = 10
FRESH_SECONDS = 1.0

UNSPOKEN = Policy(retry=Retry(unsent=True))


class Discovery(Protocol):
    """What has a body here is what a source says that knows addresses only."""

    async def locate(self, service: str, tried: Collection[str] = ()) -> Endpoint:
        """Where the next request to a service goes, if possible not to the URLs `tried`. The endpoint is in use until its `ended` is called.

        Raises Unavailable when nobody serves it."""

    async def services(self) -> set[str]:
        """The services that can be located now; empty when that can't be known."""

    def policy(self, service: str) -> Policy:
        return UNSPOKEN

    @property
    def snapshot(self) -> Snapshot | None:
        """The routing snapshot in force: it alone says what is public. None: each service's own OpenAPI document says it."""
        return None

    def on_change(self, tell: Callable[[], None]) -> None:
        """Have `tell` called whenever another snapshot is in force."""
        return None

    def status(self) -> dict[str, object] | None:
        """Which snapshot is in force and how its sources are; None where there are none."""
        return None

    async def follow(self) -> None:
        """Keep up with what changes, until cancelled."""
        return None

    async def register(self, services: list[str], url: str) -> None:
        """Tell others where these services are; nothing to do where the platform knows."""
        return None

    async def leave(self, url: str) -> None:
        """Take that back."""
        return None


class ByName(Discovery):
    """Names resolve outside: compose and cluster."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._pools: dict[str, Pool] = {}

    async def locate(self, service: str, tried: Collection[str] = ()) -> Endpoint:
        pool = self._pools.get(service)
        if pool is None:
            pool = self._pools[service] = Pool(service)
            pool.update([self._pattern.replace("{service}", service)])
        return pool.take(tried)

    async def services(self) -> set[str]:
        return set()


class ByRegistry(Discovery):
    """Processes of one machine on any port: each writes where it listens, and keeps the row fresh."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pools: dict[str, Pool] = {}
        self._read_at = -FRESH_SECONDS
        self._missed: set[str] = set()
        """Services that were looked for and not found, so that each is told of once."""

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        rows = await self._database.fetch(
            "SELECT service, array_agg(url ORDER BY url) FROM registry WHERE seen_at > now() - make_interval(secs => $1) GROUP BY service",
            GONE_AFTER_SECONDS,
        )
        self._pools = {row[0]: self._pools.get(row[0]) or Pool(row[0]) for row in rows}
        for service, urls in rows:
            self._pools[service].update(urls)
        self._missed -= self._pools.keys()
        self._read_at = time.monotonic()

    async def locate(self, service: str, tried: Collection[str] = ()) -> Endpoint:
        await self._refresh()
        pool = self._pools.get(service)
        if pool is None:
            if service not in self._missed:
                self._missed.add(service)
                log.warning(f"no process serves {service}; start one with `caravan run {service}`")
            raise Unavailable(f"{service} is not available now; try again", retry_after=2)
        return pool.take(tried)

    async def services(self) -> set[str]:
        await self._refresh()
        return set(self._pools)

    async def register(self, services: list[str], url: str) -> None:
        await self._database.fetch(
            "INSERT INTO registry SELECT s, $2, now() FROM unnest($1::text[]) s ON CONFLICT (service, url) DO UPDATE SET seen_at = now()",
            services,
            url,
        )

    async def leave(self, url: str) -> None:
        await self._database.fetch("DELETE FROM registry WHERE url = $1", url)
