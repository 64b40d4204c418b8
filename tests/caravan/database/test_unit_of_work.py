"""State, events, outbox rows and the idempotency record commit together or not at all; every message has its effect
once.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from caravan.bus import IncomingMessage, Result
from caravan.clock import new_id, utc_now
from caravan.consumers import Consumers
from caravan.database import UnitOfWork, VersionConflict
from caravan.errors import MessageRejected
from caravan.inbox import Inbox
from caravan.messages import Delivery, Event, RetryPolicy, Topic
from caravan.money import Money
from caravan.outbox import OutboxRelay, count_pending
from caravan.outbox import relay as outbox_relay
from caravan.runtime import Backends
from caravan.service import DatabaseDeclaration, Service
from caravan.telemetry.metrics import STATEMENTS
from services.orders.messages import Address
from services.orders.model import OfferedProduct, create_order
from tests.support.shop import Shop, run_services, wait_until


class Noted(Event):
    text: str


NOTED = Topic("kernel-noted", owner="kernel", events=(Noted,), key="text", purpose="test", retry=RetryPolicy((0.05,)))
EFFECTS = Topic(
    "kernel-effects", owner="kernel", events=(Noted,), key="text", purpose="test", retry=RetryPolicy((0.05, 0.05))
)
UNREAD = Topic("kernel-unread", owner="kernel", events=(Noted,), key="text", purpose="test")
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
        if await uow.claim_messages("kernel.kernel-effects", [delivery.id]):
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
        channels=(NOTED, EFFECTS, UNREAD),
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


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "no envelope"),
        (b'{"type":"kernel.Other","dataversion":1}', "unknown type"),
        (b'{"type":"%s","dataversion":99}' % Noted.type.encode(), "newer than this reader"),
        (b'{"type":"%s","dataversion":1,"data":{"text":5}}' % Noted.type.encode(), "text"),
    ],
)
async def test_what_cannot_be_read_is_dead_at_once_with_the_reason(shop: Shop, body: bytes, reason: str) -> None:
    inbox = Inbox(consume.handlers[0], shop.get_context("kernel"))
    outcome = (await inbox.process_batch([IncomingMessage("key", body, 1)]))[0]
    assert outcome.result is Result.DEAD
    assert reason in outcome.reason


async def test_an_effect_is_tried_again_and_recorded_once(shop: Shop) -> None:
    text = str(new_id())
    await shop.send_message("kernel", EFFECTS, Noted(text=text), key=text)
    await wait_until(lambda: notes(shop, text))
    assert calls.count(text) == 2
    assert await notes(shop, text) == 1


async def test_two_relays_keep_the_order_of_a_key(shop: Shop, backends: Backends) -> None:
    from caravan.leadership import Leadership

    database = shop.get_database("kernel")
    second = Leadership(backends.get_database_url("kernel_test"), "kernel_test")
    relay = asyncio.create_task(OutboxRelay(database, shop.process.bus, second).run())
    key = str(new_id())
    for number in range(100):
        await shop.send_message("kernel", NOTED, Noted(text=f"{key} {number}"), key=key)
    await wait_until(lambda: _published(shop, key, 100))
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)
    await second.close()
    assert [envelope["data"]["text"] for envelope in await shop.read_topic(NOTED.name, key)] == [
        f"{key} {number}" for number in range(100)
    ]


async def test_one_statement_removes_what_was_sent_and_looks_for_more(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_relay, "UNREMOVED_SECONDS", 60.0)
    monkeypatch.setattr(outbox_relay, "LINGER_SECONDS", 0.0)
    messages, key = 20, str(new_id())
    await wait_until(lambda: _at_rest(shop))
    before = _statements()
    for number in range(1, messages + 1):
        await shop.send_message("kernel", UNREAD, Noted(text=key), key=key)
        await wait_until(partial(_sent, shop, key, number))
    assert _statements() - before <= 2 * messages + 3, "one to write and one to relay each"


def _statements() -> float:
    return next(
        s.value
        for m in STATEMENTS.collect()
        for s in m.samples
        if s.name.endswith("_total") and s.labels["service"] == "kernel_test"
    )


async def _sent(shop: Shop, key: str, count: int) -> bool:
    return len(await shop.read_topic(UNREAD.name, key)) == count


async def test_what_was_sent_is_removed_though_nothing_comes_after_it(shop: Shop) -> None:
    await shop.send_message("kernel", UNREAD, Noted(text="last"), key=str(new_id()))
    await wait_until(lambda: _nothing_pending(shop))


async def _at_rest(shop: Shop) -> bool:
    """What earlier tests sent is handled, too."""
    waiting = await shop.process.bus.measure_lag([consumer.subscription for consumer in consume.handlers])
    return not any(waiting.values()) and await _nothing_pending(shop)


async def _nothing_pending(shop: Shop) -> bool:
    return await count_pending(shop.get_database("kernel")) == 0


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


async def test_an_expected_version_that_has_passed_is_a_conflict(backends: Backends) -> None:
    async with run_services(backends, "orders") as shop:
        stream = new_id()
        address = Address(name="A", street="B", city="C", postcode="D", country="GB")
        created = create_order(
            stream,
            new_id(),
            "a@example.com",
            "Ada",
            [(OfferedProduct("MUG", "Mug", "all", Money(amount=1, currency="GBP")), 1)],
            address,
            "card",
            utc_now(),
        )
        async with shop.get_database("orders").unit_of_work() as uow:
            uow.append(stream, 0, [created])
        with pytest.raises(VersionConflict):
            async with shop.get_database("orders").unit_of_work() as uow:
                uow.append(stream, 0, [created])
