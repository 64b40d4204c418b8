"""State, events, outbox rows and the idempotency record commit together or not at all; every message has its effect
once.
"""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from caravan.clock import new_id
from caravan.consumers import Consumers
from caravan.database import UnitOfWork, VersionConflict
from caravan.errors import MessageRejected
from caravan.events import TABLES
from caravan.messages import Delivery, Event, RetryPolicy, Topic
from caravan.outbox import count_pending
from caravan.runtime import Backends
from caravan.service import DatabaseDeclaration, Service
from tests.support.database import open_kernel_database
from tests.support.shop import Shop, run_services, wait_until


class Noted(Event):
    text: str


NOTED = Topic("kernel-noted", owner="kernel", events=(Noted,), key="text", purpose="test", retry=RetryPolicy((0.05,)))
EFFECTS = Topic(
    "kernel-effects", owner="kernel", events=(Noted,), key="text", purpose="test", retry=RetryPolicy((0.05, 0.05))
)
consume = Consumers("kernel")
calls: list[str] = []


@consume(NOTED)
async def noted(context: Any, uow: UnitOfWork, delivery: Delivery[Noted]) -> None:
    if delivery.message.text.startswith("poison"):
        raise MessageRejected("it says so")
    await uow.execute("INSERT INTO note (text) VALUES ($1)", delivery.message.text)


@consume.effect(EFFECTS)
async def effect(context: Any, delivery: Delivery[Noted]) -> None:
    calls.append(delivery.message.text)
    if delivery.attempt == 1:
        raise RuntimeError("the third party is away")
    async with context.database.unit_of_work() as uow:
        if await uow.claim_messages("kernel.kernel-effects", [delivery]):
            await uow.execute("INSERT INTO note (text) VALUES ($1)", delivery.message.text)


@pytest.fixture(scope="module")
async def shop(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    versions: Path = tmp_path_factory.mktemp("versions")
    statement = "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY, text text)"
    (versions / "0001_note.py").write_text(
        'from alembic import op\nrevision = "kernel_test0001"\ndown_revision = None\nbranch_labels = '
        f'("kernel_test",)\ndef upgrade():\n    op.execute("{statement}")\n'
    )
    service = Service(
        "kernel",
        databases=(DatabaseDeclaration("kernel_test", versions),),
        consumers=consume,
        channels=(NOTED, EFFECTS),
    )
    async with run_services(backends, extra_services=(service,)) as shop:
        yield shop


async def notes(shop: Shop, text: str) -> int:
    return int(await shop.get_database("kernel").fetchval("SELECT count(*) FROM note WHERE text = $1", text))


async def test_a_block_that_raises_writes_neither_state_nor_message(shop: Shop) -> None:
    text = str(new_id())

    async def write_and_raise() -> None:
        async with shop.get_database("kernel").unit_of_work() as uow:
            await uow.execute("INSERT INTO note (text) VALUES ($1)", text)
            uow.emit(NOTED, Noted(text=text), key=text)
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match=r"^no$"):
        await write_and_raise()
    assert await notes(shop, text) == 0
    assert await shop.read_topic(NOTED.name, text) == []


async def test_a_message_delivered_five_times_has_its_effect_once(shop: Shop) -> None:
    text, identifier = str(new_id()), new_id()
    for _ in range(5):
        await shop.send_message("kernel", NOTED, Noted(text=text), key=text, message_id=identifier)
    await wait_until(lambda: _published(shop, text, 5))
    marker = str(new_id())
    await shop.send_message("kernel", NOTED, Noted(text=marker), key=text)
    await wait_until(lambda: notes(shop, marker))
    assert await notes(shop, text) == 1


async def _published(shop: Shop, key: str, count: int) -> bool:
    return len(await shop.read_topic(NOTED.name, key)) == count


async def test_a_poison_message_hurts_only_itself(shop: Shop) -> None:
    good = [f"{new_id()}" for _ in range(10)]
    async with shop.get_database("kernel").unit_of_work() as uow:
        for text in [*good[:5], "poison " + good[0], *good[5:]]:
            uow.emit(NOTED, Noted(text=text), key=text)
    for text in good:
        await wait_until(partial(notes, shop, text))
    dead_letters = await wait_until(lambda: shop.process.bus.list_dead_letters([consume.handlers[0].subscription]))
    assert dead_letters[-1].reason == "it says so"


async def test_an_effect_is_tried_again_and_recorded_once(shop: Shop) -> None:
    text = str(new_id())
    await shop.send_message("kernel", EFFECTS, Noted(text=text), key=text)
    await wait_until(lambda: notes(shop, text))
    assert calls.count(text) == 2
    assert await notes(shop, text) == 1


async def test_a_trace_and_an_actor_travel_through_outbox_and_bus(shop: Shop) -> None:
    from caravan import telemetry

    trace = telemetry.new_traceparent()
    key = str(new_id())
    tokens = telemetry.traceparent.set(trace), telemetry.actor.set("customer:ada")
    await shop.send_message("kernel", NOTED, Noted(text=key), key=key)
    telemetry.traceparent.reset(tokens[0])
    telemetry.actor.reset(tokens[1])
    envelope = (await wait_until(lambda: shop.read_topic(NOTED.name, key)))[0]
    assert (envelope["traceparent"], envelope["actor"]) == (trace, "customer:ada")


async def test_an_expected_version_that_has_passed_is_a_conflict_and_nothing_is_written(backends: Backends) -> None:
    async with open_kernel_database(backends, "kernel_stream", *TABLES) as database:
        stream = new_id()

        async def append(expected_version: int) -> None:
            async with database.unit_of_work() as uow:
                uow.append(stream, expected_version, [Noted(text="a"), Noted(text="b")])
                uow.emit(NOTED, Noted(text="a"), key="a")

        await append(0)
        for passed in (0, 1):
            with pytest.raises(VersionConflict):
                await append(passed)
        assert await count_pending(database) == 1
        await append(2)
        assert await database.fetchval("SELECT array_agg(version ORDER BY version) FROM event") == [1, 2, 3, 4]


async def test_a_commit_that_fails_sends_no_message(backends: Backends) -> None:
    checked_at_commit = "CREATE TABLE once (number int UNIQUE DEFERRABLE INITIALLY DEFERRED)"
    async with open_kernel_database(backends, "kernel_commit", checked_at_commit) as database:

        async def write(*numbers: int) -> None:
            async with database.unit_of_work() as uow:
                await uow.execute("INSERT INTO once SELECT unnest($1::int[])", numbers)
                uow.emit(NOTED, Noted(text="a"), key="a")

        with pytest.raises(asyncpg.UniqueViolationError):
            await write(1, 1)
        assert await count_pending(database) == 0
        await write(1, 2)
        assert await count_pending(database) == 1
