"""What a service's inbox and outbox tell of a key."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from caravan.bus import Subscription
from caravan.clock import new_id, utc_now
from caravan.database import INBOX_RETENTION, Database
from caravan.messages import Queue, Topic
from caravan.runtime import Backends
from caravan.timeline import CauseFinder, ReadSubscription, TimelineRequest, answer_timeline, find_causes, messages
from caravan.timeline.messages import find_handled_messages, find_waiting_messages
from tests.support.database import open_kernel_database
from tests.support.deliveries import Blank, build_delivery

TOPIC = Topic("blanks", "kernel", (Blank,), key="id", purpose="tests")
CONSUMERS = [
    ReadSubscription(Subscription("kernel", TOPIC), (Blank.type,)),
    ReadSubscription(
        Subscription("kernel", Queue("kernel.blanks", "kernel", (), key="id", purpose="tests")), ("a", "b")
    ),
]


@pytest.fixture
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "orders") as opened:
        yield opened


async def test_handled_messages_are_found_by_key_with_their_deliveries(database: Database) -> None:
    key, cause = new_id(), new_id()
    first, second = build_delivery(key=str(key), cause=cause), build_delivery(key=str(key), attempt=3)
    async with database.unit_of_work() as uow:
        await uow.claim_messages("kernel.blanks", [second], has_types=True)
        await uow.claim_messages("another.consumer", [second])
    async with database.unit_of_work() as uow:
        await uow.claim_messages("kernel.kernel-blanks", [build_delivery(key="no-id")])
    for _ in range(3):
        async with database.unit_of_work() as uow:
            await uow.claim_messages("kernel.blanks", [first, build_delivery(key=str(new_id()))], has_types=True)
    found, has_more = await find_handled_messages(database, CONSUMERS, key)
    assert not has_more
    assert [(each.id, each.type, each.channel, each.cause, each.attempt, each.refused) for each in found] == [
        (second.id, Blank.type, found[0].channel, None, 3, 0),
        (first.id, Blank.type, found[1].channel, cause, 1, 2),
    ]
    assert await find_causes(database, "kernel.blanks", [first.id, second.id]) == {first.id: cause}


async def test_what_waits_in_the_outbox_is_found(database: Database) -> None:
    key = new_id()
    async with database.unit_of_work() as uow:
        uow.emit(TOPIC, Blank(), key=key, caused_by=build_delivery())
        uow.emit(TOPIC, Blank(), key=new_id())
    (waiting,), has_more = await find_waiting_messages(database, key)
    assert not has_more
    assert (waiting.type, waiting.channel, waiting.channel_type) == (Blank.type, "blanks", "topic")
    assert waiting.cause is not None
    assert waiting.refused_at is None


class Context:
    service = "kernel"
    clock = staticmethod(utc_now)

    def __init__(self, database: Database) -> None:
        self.database = database


async def test_an_answer_says_from_when_on_messages_are_known(database: Database) -> None:
    part = await answer_timeline(Context(database), TimelineRequest(key=new_id()), CONSUMERS, None)
    assert {gap.source for gap in part.gaps} == {"topics", "queues"}
    assert all(gap.before and utc_now() - gap.before >= INBOX_RETENTION - timedelta(minutes=1) for gap in part.gaps)


async def test_an_answer_says_what_it_leaves_out(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    key = new_id()

    async def list_cuts() -> list[str]:
        part = await answer_timeline(Context(database), TimelineRequest(key=key), CONSUMERS, None)
        assert len(part.handled) == len(part.waiting) == 2
        return [gap.reason for gap in part.gaps if gap.before is None and gap.source == "topics"]

    async with database.unit_of_work() as uow:
        for _ in range(2):
            uow.emit(TOPIC, Blank(), key=key)
        await uow.claim_messages("kernel.blanks", [build_delivery(key=str(key)) for _ in range(2)], has_types=True)
    rows = await database.fetchval("SELECT count(*) FROM outbox")
    monkeypatch.setattr(messages, "MESSAGES_SHOWN", 2)
    monkeypatch.setattr(messages, "OUTBOX_ROWS_READ", rows)
    assert await list_cuts() == []
    async with database.unit_of_work() as uow:
        uow.emit(TOPIC, Blank(), key=key)
        await uow.claim_messages("kernel.blanks", [build_delivery(key=str(key))], has_types=True)
    monkeypatch.setattr(messages, "OUTBOX_ROWS_READ", rows + 1)
    assert await list_cuts() == [
        "kernel has handled more than 2 messages of it",
        "more than 2 messages of it wait in the outbox of kernel",
    ]
    monkeypatch.setattr(messages, "OUTBOX_ROWS_READ", 2)
    assert (await list_cuts())[-1] == "only the newest 2 messages in kernel's outbox were read"


def test_each_message_causes_one_entry() -> None:
    class Handled:
        def __init__(self, number: int, type_name: str) -> None:
            self.id, self.type = UUID(int=number), type_name

    finder = CauseFinder([Handled(1, "a"), Handled(2, "b"), Handled(3, "a")])  # type: ignore[list-item]
    assert [finder.take_cause("a", "b") for _ in range(4)] == [str(UUID(int=number)) for number in (1, 3, 2)] + [None]
