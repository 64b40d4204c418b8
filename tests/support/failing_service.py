"""A service that fails on demand, behind a gateway that lists its dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from caravan import telemetry
from caravan.clock import new_id
from caravan.consumers import Consumers
from caravan.database import UnitOfWork
from caravan.messages import Command, Delivery, Event, Queue, RetryPolicy, Topic
from caravan.runtime import Backends
from caravan.service import DatabaseDeclaration, Service
from tests.support.shop import Shop, run_services, wait_until

ONCE = RetryPolicy(delays=())
TABLE = "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, key text, number int)"
WAIT_SECONDS = 60.0
"""Until a test gives up on what a broker and a busy machine take their time for."""


class Stamped(Event):
    number: int
    token: str = "tok_secret_1"


class Stamp(Command):
    number: int
    link: str = "https://shop.test/reset?token=abc"


@dataclass
class Stamps:
    """The failing service. `error_text` is what its handlers raise at a message; None when it is mended."""

    topic: Topic
    queue: Queue
    error_text: str | None = None

    def build_service(self, versions: Path) -> Service:
        consume = Consumers("stamps")

        @consume(self.topic)
        async def handle_stamped(context: Any, uow: UnitOfWork, delivery: Delivery[Stamped]) -> None:
            await self._handle_delivery(uow, delivery)

        @consume(self.queue)
        async def handle_stamp(context: Any, uow: UnitOfWork, delivery: Delivery[Stamp]) -> None:
            await self._handle_delivery(uow, delivery)

        database = DatabaseDeclaration("stamps_test", versions)
        return Service("stamps", databases=(database,), consumers=consume, channels=(self.topic, self.queue))

    async def _handle_delivery(self, uow: UnitOfWork, delivery: Delivery[Any]) -> None:
        if self.error_text is not None:
            raise RuntimeError(f"{self.error_text} {new_id()} after {delivery.message.number} s")
        await uow.execute("INSERT INTO effect (key, number) VALUES ($1, $2)", delivery.key, delivery.message.number)


@dataclass
class DeadLetterAdmin:
    """The failing service and an admin at its gateway."""

    shop: Shop
    stamps: Stamps

    async def get(self, path: str = "", **params: Any) -> dict[str, Any]:
        response = await self.shop.client.get(
            f"/v1/failures{path}", params=params, headers=self.shop.issue_headers("admin")
        )
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def post(self, action: str, **body: Any) -> dict[str, Any]:
        response = await self.shop.client.post(
            f"/v1/failures/{action}", json=body, headers=self.shop.issue_headers("admin")
        )
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def send_messages(self, key: str, *numbers: int, queue: bool = False) -> None:
        telemetry.traceparent.set(telemetry.new_traceparent())
        for number in numbers:
            message = Stamp(number=number) if queue else Stamped(number=number)
            await self.shop.send_message("stamps", self.stamps.queue if queue else self.stamps.topic, message, key=key)

    async def list_effects(self, key: str) -> list[int]:
        return [
            row[0]
            for row in await self.shop.get_database("stamps").fetch(
                "SELECT number FROM effect WHERE key = $1 ORDER BY n", key
            )
        ]

    async def wait_for_failures(self, count: int, **params: Any) -> list[dict[str, Any]]:
        """The items of the list once there are so many."""

        async def fetch_if_enough() -> list[dict[str, Any]]:
            items = (await self.get(limit=100, **params))["items"]
            return items if len(items) >= count else []

        return list(await wait_until(fetch_if_enough, seconds=WAIT_SECONDS, every=0.1))

    async def wait_for_effects(self, key: str, *numbers: int) -> None:
        async def has_all_effects() -> bool:
            return await self.list_effects(key) == list(numbers)

        await wait_until(has_all_effects, seconds=WAIT_SECONDS)


@asynccontextmanager
async def run_failing_service(
    backends: Backends, folder: Path, transport: dict[str, Any]
) -> AsyncIterator[DeadLetterAdmin]:
    """`transport`: the settings that name the brokers; none for the embedded bus."""
    (folder / "0001_effect.py").write_text(
        'from alembic import op\nrevision = "stamps0001"\ndown_revision = None\nbranch_labels = ("stamps",)\ndef '
        f'upgrade():\n    op.execute("{TABLE}")\n'
    )
    run_id = new_id().hex[-8:]
    stamps = Stamps(
        Topic(f"stamped-{run_id}", owner="stamps", events=(Stamped,), key="id", purpose="test", retry=ONCE),
        Queue(f"stamps.stamp-{run_id}", owner="stamps", commands=(Stamp,), key="id", purpose="test", retry=ONCE),
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GATEWAY_SERVICES", "stamps,elsewhere")
        async with run_services(
            backends, "gateway", extra_services=(stamps.build_service(folder),), data=folder, **transport
        ) as shop:
            await shop.get_database("stamps").fetch("DELETE FROM effect")
            yield DeadLetterAdmin(shop, stamps)
