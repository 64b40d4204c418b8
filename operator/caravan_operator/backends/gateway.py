"""Asks the pods of a gateway for the revision of the routing snapshot that they use (`/revision`)."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from caravan_operator.backends.http_responses import (
    HEADERS,
    InvalidResponse,
    ReadBudget,
    expect_object,
    get_integer,
    get_text,
)
from caravan_operator.reconcile.endpoint_index import Endpoint

MAX_BYTES = 4096
CONNECT_SECONDS = 1.0
MAX_CONNECTIONS = 16
MAX_CLOCK_AHEAD = 86_400.0
"""Seconds that the clock of an earlier operator may have been ahead."""


@dataclass(frozen=True, slots=True)
class GatewayPod:
    """`revision` and `sequence` are those in force there; None while it has none, or doesn't answer."""

    name: str
    revision: str | None = None
    sequence: int | None = None


def parse_sequence(document: dict[str, Any]) -> int:
    """Raises InvalidResponse for one that no operator has given: the next must be above it, and a time must stay
    one.
    """
    value = get_integer(document, "sequence")
    if not 0 <= value <= (time.time() + MAX_CLOCK_AHEAD) * 1000:
        raise InvalidResponse("the sequence is no time that has been")
    return value


class GatewayPods:
    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch_revisions(self, endpoints: Sequence[Endpoint]) -> list[GatewayPod]:
        """Of all pods at once, by name."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=MAX_CONNECTIONS, force_close=True)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=CONNECT_SECONDS * 4, connect=CONNECT_SECONDS),
                headers=HEADERS,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return sorted(
            await asyncio.gather(*(self._fetch_revision(self._session, endpoint) for endpoint in endpoints)),
            key=lambda pod: pod.name,
        )

    async def _fetch_revision(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> GatewayPod:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        name = endpoint.pod or host
        try:
            async with session.get(f"http://{host}:{endpoint.port}/revision", allow_redirects=False) as response:
                if response.status != 200:
                    return GatewayPod(name)
                document = expect_object(await ReadBudget(MAX_BYTES).read_json(response))
            return GatewayPod(name, get_text(document, "revision", r"[0-9A-Za-z:-]{1,71}"), parse_sequence(document))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return GatewayPod(name)
