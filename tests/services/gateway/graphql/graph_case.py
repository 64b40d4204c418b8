"""The graph of a shop with all the services that it reads, and what a test asks of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from caravan.runtime.connection_limits import ConnectionLimits
from caravan.runtime.connections import BoundedProtocol
from services.gateway.main import service as gateway
from tests.services.gateway.stand_ins import listening
from tests.support.program import Program
from tests.support.shop import Shop

Json = dict[str, Any]
SERVED = partial(BoundedProtocol, limits=ConnectionLimits(1000), websocket_path=gateway.websocket_path)
"""As a process serves it."""


@dataclass
class GraphCase:
    shop: Shop
    program: Program

    async def post(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> httpx2.Response:
        return await self.shop.client.post(
            "/graphql", json={"query": query, "variables": variables}, headers=headers or {}
        )

    async def ask(self, query: str, headers: dict[str, str] | None = None, **variables: Any) -> Json:
        """The data of an answer without errors."""
        answer = await self.post(query, headers, **variables)
        assert answer.status_code == 200, answer.text
        assert "errors" not in answer.json(), answer.text
        data: Json = answer.json()["data"]
        return data

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[httpx2.AsyncClient]:
        """The shop over real connections: its own client takes whole answers only."""
        async with (
            listening(self.shop.process.app, http=SERVED) as url,
            httpx2.AsyncClient(base_url=url, timeout=30, trust_env=False, limits=httpx2.Limits()) as client,
        ):
            yield client
