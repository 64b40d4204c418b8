"""A gateway that follows a routing snapshot, and three replicas of a service behind it."""

from dataclasses import dataclass
from typing import Any

import httpx2

from tests.services.gateway.snapshots import Mounted, document
from tests.services.gateway.stand_ins import Pets
from tests.support.shop import Shop, wait_until

WITHIN = 2.0
"""Seconds until a change must be in force, on a machine that has time for it."""
TIMEOUT_SECONDS = 30.0
"""Until whoever waits gives up, on any machine."""


@dataclass
class SnapshotCase:
    shop: Shop
    client: httpx2.AsyncClient
    mounted: Mounted
    replicas: list[Pets]
    urls: list[str]
    sequence: int = 0

    async def put(self, services: dict[str, Any], routes: list[dict[str, Any]] | None = None, **more: Any) -> None:
        """Mount a newer snapshot and wait until it is in force."""
        self.sequence = (
            max(
                self.sequence,
                self.shop.process.discovery.current_snapshot.sequence
                if self.shop.process.discovery.current_snapshot
                else 0,
            )
            + 1
        )
        self.mounted.put(document(self.sequence, services, routes, **more))
        await self.in_force(self.sequence)

    async def in_force(self, sequence: int) -> None:
        async def revised() -> bool:
            return bool((await self.client.get("/revision")).json()["sequence"] == sequence)

        await wait_until(revised, seconds=TIMEOUT_SECONDS)

    async def routed(self, path: str = "/v1/pets/rex") -> None:
        async def answered() -> bool:
            return (await self.client.get(path)).status_code == 200

        await wait_until(answered, seconds=TIMEOUT_SECONDS)

    async def spread(self, requests: int) -> list[int]:
        """How many of so many reads each replica got."""
        for pets in self.replicas:
            pets.asked = 0
        for _ in range(requests):
            assert (await self.client.get("/v1/pets/rex")).status_code == 200
        return [pets.asked for pets in self.replicas]
