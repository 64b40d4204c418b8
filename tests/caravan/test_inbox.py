"""Each message has its effect once, together with what its handler emits; one that fails harms only its own key."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import orjson
import pytest

from caravan.bus import DONE, HandlingResult, IncomingMessage, Result
from caravan.clock import new_id, utc_now
from caravan.concurrency import map_concurrently
from caravan.consumers import Consumers
from caravan.database import Database, UnitOfWork
from caravan.errors import MessageRejected
from caravan.inbox import Inbox
from caravan.messages import Delivery, Event, Topic, encode_message
from caravan.runtime import Backends
from tests.support.database import NOTE_TABLE, count_statements, open_kernel_database
from tests.support.faults import switch_faults


class Noted(Event):
    text: str


NOTED = Topic("noted", owner="kernel", events=(Noted,), key="text", purpose="test")
OTHER = Topic("other-noted", owner="kernel", events=(Noted,), key="text", purpose="test")
CALLED = Topic("called", owner="kernel", events=(Noted,), key="text", purpose="test")
BATCH_CALLED = Topic("batch-called", owner="kernel", events=(Noted,), key="text", purpose="test")
consume = Consumers("kernel")
calls: list[list[str]] = []
"""What each run of a handler was given."""


def raise_on_demand(text: str) -> None:
    match text.split(maxsplit=1)[0]:
        case "fail":
            raise LookupError(text)
        case "reject":
            raise MessageRejected("it says so")
        case "lose":
            raise ConnectionResetError("the database is away")


@consume(NOTED)
async def write_note(_: Any, uow: UnitOfWork, delivery: Delivery[Noted]) -> None:
    calls.append([delivery.message.text])
    await uow.execute("INSERT INTO note (text) VALUES ($1)", delivery.message.text)
    uow.emit(OTHER, delivery.message, key=delivery.key)
    raise_on_demand(delivery.message.text)


@consume(OTHER)
async def write_notes(_: Any, uow: UnitOfWork, deliveries: list[Delivery[Noted]]) -> None:
    calls.append([delivery.message.text for delivery in deliveries])
    for delivery in deliveries:
        await uow.execute("INSERT INTO note (text) VALUES ($1)", delivery.message.text)
        raise_on_demand(delivery.message.text)


@consume.effect(CALLED)
async def call_party(_: Any, delivery: Delivery[Noted]) -> None:
    calls.append([delivery.message.text])
    await asyncio.sleep(0)
    raise_on_demand(delivery.message.text)


@consume.effect(BATCH_CALLED)
async def call_party_for_all(_: Any, deliveries: list[Delivery[Noted]]) -> None:
    calls.append([delivery.message.text for delivery in deliveries])

    async def call_for_one(delivery: Delivery[Noted]) -> None:
        raise_on_demand(delivery.message.text)

    await map_concurrently(call_for_one, deliveries, 5)


SINGLE, BATCH, EFFECT, EFFECT_BATCH = consume.handlers


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_inbox", NOTE_TABLE) as opened:
        yield opened


@pytest.fixture
async def context(database: Database) -> Any:
    calls.clear()
    await database.fetch("TRUNCATE note, inbox, outbox")
    return SimpleNamespace(service="kernel", database=database)


def make_incoming(text: str, key: str = "", *, message_id: UUID | None = None, actor: str | None = None) -> Any:
    sent = encode_message(
        Noted(text=text),
        NOTED,
        key=key or text,
        source="kernel",
        time=utc_now(),
        traceparent=None,
        actor=actor,
        message_id=message_id,
    )
    return IncomingMessage(sent.key, sent.body, 1)


async def list_notes(database: Database) -> list[str]:
    return [row[0] for row in await database.fetch("SELECT text FROM note ORDER BY id")]


@pytest.mark.parametrize("consumer", [SINGLE, BATCH], ids=["single", "batch"])
async def test_a_message_has_its_effect_once_however_often_it_comes(
    context: Any, database: Database, consumer: Any
) -> None:
    inbox, first, second = Inbox(consumer, context), make_incoming("a"), make_incoming("b")
    assert await inbox.process_batch([first, first]) == [DONE, DONE]
    assert await inbox.process_batch([second, first, second]) == [DONE] * 3
    assert await list_notes(database) == ["a", "b"]
    await Inbox(consumer, context).process_batch([first, second])
    assert await list_notes(database) == ["a", "b"], "another process knows them, too"


async def test_two_processes_that_have_the_same_message_have_one_effect(context: Any, database: Database) -> None:
    message = make_incoming("a")
    results = await asyncio.gather(*(Inbox(SINGLE, context).process_batch([message]) for _ in range(5)))
    assert results == [[DONE]] * 5
    assert await list_notes(database) == ["a"]


async def test_each_consumer_has_the_message_for_itself(context: Any, database: Database) -> None:
    message = make_incoming("a")
    await Inbox(SINGLE, context).process_batch([message])
    await Inbox(BATCH, context).process_batch([message])
    assert await list_notes(database) == ["a", "a"]


async def test_a_batch_is_one_transaction(context: Any) -> None:
    before = count_statements(context.database)
    await Inbox(BATCH, context).process_batch([make_incoming(str(number)) for number in range(10)])
    assert count_statements(context.database) - before == 2 + 10, "BEGIN with the claim, COMMIT and the handler's own"
    assert calls == [[str(number) for number in range(10)]]


@pytest.mark.parametrize("consumer", [SINGLE, BATCH], ids=["single", "batch"])
async def test_one_that_fails_is_tried_again_and_harms_only_its_key(
    context: Any, database: Database, consumer: Any
) -> None:
    batch = [make_incoming(text, key) for text, key in (("a", "k"), ("fail", "k"), ("b", "k"), ("c", "other"))]
    results = await Inbox(consumer, context).process_batch(batch)
    assert results == [
        DONE,
        HandlingResult(Result.RETRY, "LookupError: fail"),
        HandlingResult(Result.BLOCKED),
        DONE,
    ]
    assert await list_notes(database) == ["a", "c"]
    calls.clear()
    assert (await Inbox(consumer, context).process_batch(batch[1:2]))[0].result is Result.RETRY
    assert calls == [["fail"]], "it was not claimed"


@pytest.mark.parametrize("consumer", [SINGLE, BATCH], ids=["single", "batch"])
async def test_one_that_is_rejected_is_dead_and_its_key_goes_on(
    context: Any, database: Database, consumer: Any
) -> None:
    batch = [make_incoming(text, "k") for text in ("a", "reject", "b")]
    results = await Inbox(consumer, context).process_batch(batch)
    assert results == [DONE, HandlingResult(Result.DEAD, "it says so"), DONE]
    assert await list_notes(database) == ["a", "b"]


@pytest.mark.parametrize("consumer", [SINGLE, BATCH, EFFECT, EFFECT_BATCH])
async def test_trouble_of_the_infrastructure_counts_for_no_message(
    context: Any, database: Database, consumer: Any
) -> None:
    with pytest.raises(ConnectionResetError):
        await Inbox(consumer, context).process_batch([make_incoming("a", "k"), make_incoming("lose", "k")])
    assert await list_notes(database) == []
    assert await database.fetchval("SELECT count(*) FROM inbox") == 0


async def test_what_a_handler_emits_is_sent_with_its_effect_and_names_its_cause(
    context: Any, database: Database
) -> None:
    message_id = new_id()
    good = make_incoming("a", message_id=message_id, actor="customer:1")
    await Inbox(SINGLE, context).process_batch([good, make_incoming("fail")])
    rows = await database.fetch("SELECT body FROM outbox")
    envelopes = [orjson.loads(row["body"]) for row in rows]
    assert [(envelope["data"]["text"], envelope["causationid"], envelope["actor"]) for envelope in envelopes] == [
        ("a", str(message_id), "customer:1")
    ]


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("key", b"{", "not JSON"),
        ("key", b"[]", "no envelope"),
        ("key", b'{"type":"kernel.Other","dataversion":1}', "unknown type"),
        ("key", b'{"type":"%s","dataversion":99}' % Noted.type.encode(), "newer than this reader"),
        ("key", b'{"type":"%s","dataversion":1,"data":{"text":5}}' % Noted.type.encode(), "text"),
        ("", make_incoming("a").body, "no key"),
    ],
)
async def test_what_can_not_be_read_is_dead_at_once_with_the_reason_and_the_others_go_on(
    context: Any, database: Database, key: str, body: bytes, reason: str
) -> None:
    outcome, other = await Inbox(SINGLE, context).process_batch([IncomingMessage(key, body, 1), make_incoming("b")])
    assert outcome.result is Result.DEAD
    assert reason in outcome.reason
    assert other is DONE
    assert await list_notes(database) == ["b"]


async def test_effects_keep_the_order_of_a_key_and_other_keys_do_not_wait(context: Any) -> None:
    batch = [make_incoming(*each) for each in (("a", "k"), ("fail", "k"), ("b", "k"), ("c", "l"), ("d", "l"))]
    results = await Inbox(EFFECT, context).process_batch(batch)
    assert [outcome.result for outcome in results] == [
        Result.DONE,
        Result.RETRY,
        Result.BLOCKED,
        Result.DONE,
        Result.DONE,
    ]
    texts = [text for (text,) in calls]
    assert [text for text in texts if text in "cd"] == ["c", "d"]
    assert texts.index("c") < texts.index("fail"), "the other key's first came while the first key's was under way"


async def test_a_batch_of_effects_that_raises_runs_one_by_one(context: Any) -> None:
    batch = [make_incoming(text) for text in ("a", "reject", "b")]
    results = await Inbox(EFFECT_BATCH, context).process_batch(batch)
    assert results == [DONE, HandlingResult(Result.DEAD, "it says so"), DONE]
    assert calls[0] == ["a", "reject", "b"]
    assert sorted(calls[1:]) == [["a"], ["b"], ["reject"]]


async def test_faults_strike_a_subscription_by_its_name(context: Any, database: Database) -> None:
    inbox, other = Inbox(SINGLE, context), Inbox(BATCH, context)
    with switch_faults(f"poison-message:{inbox.name}"):
        assert [one.result for one in await inbox.process_batch([make_incoming("a")])] == [Result.DEAD]
        assert await other.process_batch([make_incoming("b")]) == [DONE]
    first, later, second_attempt = make_incoming("c", "k"), make_incoming("d", "k"), make_incoming("e")
    with switch_faults("handler-failing:kernel"):
        batch = [first, later, second_attempt._replace(attempt=2)]
        results = [one.result for one in await inbox.process_batch(batch)]
    assert results == [Result.RETRY, Result.BLOCKED, Result.DONE], "later ones of its key are not handled before it"
    assert await list_notes(database) == ["b", "e"]
