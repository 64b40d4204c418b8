"""The graph of a shop with all the services that it reads, and what a test asks of it."""

from dataclasses import dataclass
from typing import Any

import httpx2

from tests.support.program import Program
from tests.support.shop import Shop

Json = dict[str, Any]


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
