"""What a gateway pod says it has in force: its /revision."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from caravan_operator.reconcile.places import Endpoint

SECONDS = 1.0
AT_A_TIME = 16


@dataclass(frozen=True, slots=True)
class Pod:
    """`revision` and `sequence` are those in force there; None while it has none, or doesn't answer."""

    name: str
    revision: str | None = None
    sequence: int | None = None


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
            self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=SECONDS * 4, connect=SECONDS))
        return sorted(await asyncio.gather(*(self._ask(self._session, endpoint) for endpoint in endpoints)), key=lambda pod: pod.name)

    async def _ask(self, session: aiohttp.ClientSession, endpoint: Endpoint) -> Pod:
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        name = endpoint.pod or host
        try:
            async with session.get(f"http://{host}:{endpoint.port}/revision") as answer:
                said: Any = await answer.json(content_type=None) if answer.status == 200 else {}
            revision, sequence = said.get("revision"), said.get("sequence")
            return Pod(name, revision, sequence) if isinstance(revision, str) and isinstance(sequence, int) else Pod(name)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, AttributeError):
            return Pod(name)
