"""What a gateway pod says it has in force: its /revision."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from caravan_operator.backends.answers import HEADERS, BadAnswer, Budget, number, table, text
from caravan_operator.reconcile.places import Endpoint

MOST_BYTES = 4096
SECONDS = 1.0
AT_A_TIME = 16
AHEAD = 86_400.0
"""Seconds that the clock of an earlier operator may have been ahead."""


@dataclass(frozen=True, slots=True)
class Pod:
    """`revision` and `sequence` are those in force there; None while it has none, or doesn't answer."""

    name: str
    revision: str | None = None
    sequence: int | None = None


def sequence(said: dict[str, Any]) -> int:
    """Raises BadAnswer for one that no operator has given: the next must be above it, and a time must stay one."""
    found = number(said, "sequence")
    if not 0 <= found <= (time.time() + AHEAD) * 1000:
        raise BadAnswer("the sequence is no time that has been")
    return found


class GatewayPods:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def revisions(self, endpoints: Sequence[Endpoint]) -> list[Pod]:
        """Of all pods at once, by name."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=AT_A_TIME, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=SECONDS * 4, connect=SECONDS),
                headers=HEADERS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return sorted(await asyncio.gather(*(self._ask(self._session, endpoint) for endpoint in endpoints)), key=lambda pod: pod.name)

    async def _ask(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> Pod:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        name = endpoint.pod or host
        try:
            async with session.get(f"http://{host}:{endpoint.port}/revision", allow_redirects=False) as answer:
                if answer.status != 200:
                    return Pod(name)
                said = table(await Budget(MOST_BYTES).json(answer))
            return Pod(name, text(said, "revision", r"[0-9A-Za-z:-]{1,71}"), sequence(said))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return Pod(name)
