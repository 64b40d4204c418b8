"""Who lives where: by a name pattern (`http://{service}:8080`), or, for processes on one machine, by what each wrote into the bus's database."""

import time
from typing import Protocol

from caravan.database import Database
from caravan.errors import Unavailable

HEARTBEAT_SECONDS = 3.0
GONE_AFTER_SECONDS = 10
FRESH_SECONDS = 1.0


class Discovery(Protocol):
    async def locate(self, service: str) -> str:
        """The base URL of a service. Raises Unavailable when nobody serves it."""

    async def services(self) -> set[str]:
        """The services that can be located now; empty when that can't be known."""

    async def register(self, services: list[str], url: str) -> None: ...

    async def leave(self, url: str) -> None: ...


class ByName:
    """Names resolve outside: compose and cluster."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern

    async def locate(self, service: str) -> str:
        return self._pattern.replace("{service}", service)

    async def services(self) -> set[str]:
        return set()

    async def register(self, services: list[str], url: str) -> None:
        """Nothing to do: the platform knows."""

    async def leave(self, url: str) -> None:
        """Nothing to do: the platform knows."""


class ByRegistry:
    """Processes of one machine on any port: each writes where it listens, and keeps the row fresh."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[str, list[str]] = {}
        self._read_at = -FRESH_SECONDS
        self._turn = 0

    async def _refresh(self) -> None:
        if time.monotonic() - self._read_at < FRESH_SECONDS:
            return
        rows = await self._database.fetch(
            "SELECT service, array_agg(url ORDER BY url) FROM registry WHERE seen_at > now() - make_interval(secs => $1) GROUP BY service",
            GONE_AFTER_SECONDS,
        )
        self._known = {row[0]: row[1] for row in rows}
        self._read_at = time.monotonic()

    async def locate(self, service: str) -> str:
        await self._refresh()
        urls = self._known.get(service)
        if not urls:
            raise Unavailable(f"no process serves {service} now; start one with `caravan run {service}`")
        self._turn += 1
        return urls[self._turn % len(urls)]

    async def services(self) -> set[str]:
        await self._refresh()
        return set(self._known)

    async def register(self, services: list[str], url: str) -> None:
        await self._database.fetch(
            "INSERT INTO registry SELECT s, $2, now() FROM unnest($1::text[]) s ON CONFLICT (service, url) DO UPDATE SET seen_at = now()",
            services,
            url,
        )

    async def leave(self, url: str) -> None:
        await self._database.fetch("DELETE FROM registry WHERE url = $1", url)
