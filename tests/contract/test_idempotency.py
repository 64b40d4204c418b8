"""Every door keeps the idempotency contract: HTTP with an Idempotency-Key, and messages on each bus by their ids."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.audit import AUDIT
from caravan.bus import Bus
from caravan.bus.embedded import EmbeddedBus
from caravan.bus.kafka import KafkaBus
from caravan.bus.rabbit import RabbitBus
from caravan.database import ANSWERS_KEPT, INBOX_KEPT, Database
from caravan.idempotency import OnceRequired
from caravan.messages import Topic
from caravan.runtime import Backends
from caravan.service import DatabaseDeclaration, Service
from services.gateway.faces import channels
from tests.contract.idempotency_contract import Clock, Door, Gate, IdempotencyContract, deeds, migrated
from tests.contract.message_door import MessageDoor, message_door
from tests.shop import Shop, running

router = APIRouter()


@router.post("/v1/deeds/{key}")
async def do_deed(request: Request, key: UUID, once: OnceRequired) -> Response:
    context = request.app.state.context
    door: Door = context.parts

    async def act() -> Response:
        text = (await request.json())["text"]
        async with context.database.work() as work:
            answer = once.save(work, 201, {"done": text})
            await door.do(work, key, text)
        await door.gate.passes("after commit")
        return answer

    return await once.run(context.database, act)


class HttpDoor(Door):
    remembers: timedelta = ANSWERS_KEPT

    def __init__(self, shop: Shop, clock: Clock) -> None:
        super().__init__(shop.database("deeds"), clock, Gate())
        self._client = shop.client
        self._asking: set[asyncio.Task[Any]] = set()

    async def hand_in(self, key: UUID, text: str) -> tuple[int, bytes]:
        asking = asyncio.create_task(self._client.post(f"/v1/deeds/{key}", json={"text": text}, headers={"Idempotency-Key": str(key)}))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        answer = await asking
        return answer.status_code, answer.content

    async def again_elsewhere(self, key: UUID, text: str) -> None:
        assert (await self.hand_in(key, text))[0] == 201

    async def dies(self) -> None:
        asking = list(self._asking)
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def says_other_body(self, told: Any) -> bool:
        return bool(told[0] == 422 and b"was used with another body" in told[1])


class TestHttp(IdempotencyContract):
    @pytest.fixture(scope="class")
    async def shop(self, backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Shop, Clock]]:
        versions = await migrated(backends, "deeds_http", tmp_path_factory.mktemp("versions"))
        service = Service("deeds", databases=(DatabaseDeclaration("deeds_http", versions),), routers=(router,))
        clock = Clock()
        async with running(backends, extra=(service,), clock=clock) as shop:
            yield shop, clock

    @pytest.fixture
    async def door(self, shop: tuple[Shop, Clock]) -> HttpDoor:
        running_shop, clock = shop
        clock.ahead = timedelta()
        door = HttpDoor(running_shop, clock)
        running_shop.context("deeds").parts = door
        return door


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
async def database(backends: Backends, tmp_path_factory: pytest.TempPathFactory, clock: Clock) -> AsyncIterator[Database]:
    async with deeds(backends, tmp_path_factory.mktemp("deeds"), clock) as database:
        yield database


class OverMessages(IdempotencyContract):
    """A bus adds only the fixture `bus`, and what it carries."""

    @pytest.fixture
    async def door(self, kind: str, bus: Bus, database: Database, clock: Clock) -> AsyncIterator[MessageDoor]:
        clock.ahead = timedelta()
        async with message_door(database, bus, kind, clock) as door:
            yield door


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


def test_a_topic_is_forgotten_before_what_was_handled_of_it() -> None:
    """A group that starts over reads what the topic still holds, and must know all of it."""
    topics = [channel for channel in channels() if isinstance(channel, Topic)]
    assert [topic.name for topic in topics if topic.retention >= INBOX_KEPT] == [AUDIT.name], "analytics knows a deed by its id, for ever"
