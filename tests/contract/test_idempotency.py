"""Every entry point keeps the idempotency contract.

HTTP does by an Idempotency-Key, and messages by their ids on each bus.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.audit import AUDIT
from caravan.bus import NEW_READER_AGE, Bus
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbitmq import RabbitBus
from caravan.database import INBOX_RETENTION, RESPONSE_RETENTION, Database
from caravan.idempotency import RequiredIdempotency
from caravan.messages import KEPT, Topic
from caravan.runtime import Backends
from caravan.service import DatabaseDeclaration, Service
from services.gateway.known_services import list_channels
from tests.contract.idempotency_contract import (
    Clock,
    EntryPoint,
    Gate,
    IdempotencyContract,
    create_database,
    open_database,
)
from tests.contract.message_entry_point import MessageEntryPoint, open_message_entry_point
from tests.support.shop import Shop, run_services

router = APIRouter()


@router.post("/v1/actions/{key}")
async def insert_once(request: Request, key: UUID, once: RequiredIdempotency) -> Response:
    context = request.app.state.context
    entry_point: EntryPoint = context.resources

    async def write_effect() -> Response:
        text = (await request.json())["text"]
        async with context.database.unit_of_work() as uow:
            response = once.store(uow, 201, {"done": text})
            await entry_point.insert_effect(uow, key, text)
        await entry_point.gate.pass_through("after commit")
        return response

    return await once.execute(context.database, write_effect)


class HttpEntryPoint(EntryPoint):
    retention: timedelta = RESPONSE_RETENTION

    def __init__(self, shop: Shop, clock: Clock) -> None:
        super().__init__(shop.get_database("actions"), clock, Gate())
        self._client = shop.client
        self._request_tasks: set[asyncio.Task[Any]] = set()

    async def submit(self, key: UUID, text: str) -> tuple[int, bytes]:
        request_task = asyncio.create_task(
            self._client.post(f"/v1/actions/{key}", json={"text": text}, headers={"Idempotency-Key": str(key)})
        )
        self._request_tasks.add(request_task)
        request_task.add_done_callback(self._request_tasks.discard)
        response = await request_task
        return response.status_code, response.content

    async def submit_elsewhere(self, key: UUID, text: str) -> None:
        assert (await self.submit(key, text))[0] == 201

    async def replace_worker(self) -> None:
        tasks = list(self._request_tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def is_body_mismatch(self, response: Any) -> bool:
        return bool(response[0] == 422 and b"was used with another body" in response[1])


class TestHttp(IdempotencyContract):
    @pytest.fixture(scope="class")
    async def shop(
        self, backends: Backends, tmp_path_factory: pytest.TempPathFactory
    ) -> AsyncIterator[tuple[Shop, Clock]]:
        versions = await create_database(backends, "actions_http", tmp_path_factory.mktemp("versions"))
        service = Service("actions", databases=(DatabaseDeclaration("actions_http", versions),), routers=(router,))
        clock = Clock()
        async with run_services(backends, extra_services=(service,), clock=clock) as shop:
            yield shop, clock

    @pytest.fixture
    async def entry_point(self, shop: tuple[Shop, Clock]) -> HttpEntryPoint:
        running_shop, clock = shop
        clock.ahead = timedelta()
        entry_point = HttpEntryPoint(running_shop, clock)
        running_shop.get_context("actions").resources = entry_point
        return entry_point


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
async def database(
    backends: Backends, tmp_path_factory: pytest.TempPathFactory, clock: Clock
) -> AsyncIterator[Database]:
    async with open_database(backends, tmp_path_factory.mktemp("actions"), clock) as database:
        yield database


class OverMessages(IdempotencyContract):
    """A bus adds only the fixture `bus`, and what it carries."""

    @pytest.fixture
    async def entry_point(
        self, kind: str, bus: Bus, database: Database, clock: Clock
    ) -> AsyncIterator[MessageEntryPoint]:
        clock.ahead = timedelta()
        async with open_message_entry_point(database, bus, kind, clock) as entry_point:
            yield entry_point


@pytest.mark.parametrize("kind", ["topic", "queue", "exchange"])
class TestEmbeddedBus(OverMessages):
    @pytest.fixture
    def bus(self, embedded_bus: EmbeddedBus) -> Bus:
        return embedded_bus


@pytest.mark.parametrize("kind", ["topic"])
class TestKafka(OverMessages):
    @pytest.fixture
    def bus(self, kafka_bus: KafkaBus) -> Bus:
        return kafka_bus


@pytest.mark.parametrize("kind", ["queue", "exchange"])
class TestRabbitMQ(OverMessages):
    @pytest.fixture
    def bus(self, rabbit_bus: RabbitBus) -> Bus:
        return rabbit_bus


def test_no_reader_begins_with_messages_whose_handling_is_forgotten() -> None:
    """A group that starts over reads what the topic still holds and is not older than NEW_READER_AGE, and must know all
    of it. Nor does one find more on its topic that is reset to the topic's beginning, but on those of read models.
    """
    assert NEW_READER_AGE < INBOX_RETENTION
    others = [channel for channel in list_channels() if isinstance(channel, Topic) and channel.retention != KEPT]
    assert [topic.name for topic in others if topic.retention >= INBOX_RETENTION] == [AUDIT.name], (
        "analytics knows a record by its id, without a time limit"
    )
