"""One statement writes whatever units of work collected, and one group commit serves many of them, where each fails
alone.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import chain, product
from uuid import UUID

import asyncpg
import pytest

from caravan.clock import new_id
from caravan.database import RESPONSE_RETENTION, Database, StoredResponse
from caravan.database.pending_writes import EventRow, GroupCommit, PendingWrites
from caravan.events import TABLES
from caravan.messages import OutgoingMessage
from caravan.runtime import Backends
from tests.support.database import open_kernel_database

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


def make_message(key: str = "k") -> OutgoingMessage:
    return OutgoingMessage("topic", "noted", "", key, new_id(), b"{}")


def make_response(key: str) -> StoredResponse:
    return StoredResponse("customer POST /v1/orders", key, b"print", 202, {"Location": "/x"}, b'{"a": 1}')


def make_event(stream: UUID, version: int = 1) -> EventRow:
    return (stream, version, "orders.Noted", 1, '{"text": "a"}', NOW, "customer:1", None)


def make_writes(*messages: OutgoingMessage) -> PendingWrites:
    return PendingWrites([], [], list(messages))


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_writes", *TABLES, clock=lambda: NOW) as opened:
        yield opened


async def count_rows(database: Database) -> list[int]:
    row = await database.fetchrow(
        "SELECT (SELECT count(*) FROM idempotency), (SELECT count(*) FROM event), (SELECT count(*) FROM outbox)"
    )
    assert row is not None
    return list(row)


@pytest.mark.parametrize("sizes", [sizes for sizes in product((0, 2), repeat=3) if any(sizes)])
async def test_one_statement_writes_any_combination(database: Database, sizes: tuple[int, int, int]) -> None:
    before = await count_rows(database)
    pending = PendingWrites(
        [make_response(str(new_id())) for _ in range(sizes[0])],
        [make_event(new_id()) for _ in range(sizes[1])],
        [make_message() for _ in range(sizes[2])],
    )
    assert pending
    await database.write_pending(pending)
    assert await count_rows(database) == [count + added for count, added in zip(before, sizes, strict=True)]


def test_nothing_collected_is_nothing_to_write() -> None:
    assert not PendingWrites([], [], [])


async def test_rows_are_what_was_collected_and_messages_stay_in_order(database: Database) -> None:
    key, stream = str(new_id()), new_id()
    messages = [make_message(key) for _ in range(5)]
    await database.write_pending(PendingWrites([make_response(key)], [make_event(stream)], messages))
    rows = await database.fetch(
        "SELECT kind, channel, route, key, message_id, body FROM outbox WHERE key = $1 ORDER BY id", key
    )
    assert [OutgoingMessage(*row) for row in rows] == messages
    response = await database.fetchrow("SELECT * FROM idempotency WHERE key = $1", key)
    assert response is not None
    assert (response["status"], response["headers"], response["body"]) == (202, '{"Location":"/x"}', b'{"a": 1}')
    assert response["expires_at"] == NOW + RESPONSE_RETENTION
    event = await database.fetchrow(
        "SELECT stream, version, type, data_version, data, time, actor, trace_id FROM event WHERE stream = $1", stream
    )
    assert event is not None
    assert tuple(event) == make_event(stream)


async def test_a_broken_unique_key_writes_nothing_of_the_statement(database: Database) -> None:
    stream, key = new_id(), str(new_id())
    await database.write_pending(PendingWrites([], [make_event(stream)], []))
    before = await count_rows(database)
    with pytest.raises(asyncpg.UniqueViolationError, match="event_pkey"):
        await database.write_pending(PendingWrites([make_response(key)], [make_event(stream)], [make_message()]))
    assert await count_rows(database) == before


class RecordingTable:
    """Writes as a database does: takes time, and refuses a whole statement that has a message of a taken key."""

    def __init__(self) -> None:
        self.statements: list[list[str]] = []
        self.error: Exception | None = None
        self.written = asyncio.Event()
        self.written.set()

    async def write(self, pending: PendingWrites) -> None:
        keys = [message.key for message in pending.outbox]
        await self.written.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if "taken" in keys:
            raise asyncpg.UniqueViolationError("taken")
        self.statements.append(keys)


async def commit_all(group_commit: GroupCommit, *keys: str) -> list[BaseException | None]:
    return await asyncio.gather(
        *(group_commit.commit(make_writes(make_message(key))) for key in keys), return_exceptions=True
    )


async def test_what_comes_while_a_statement_is_under_way_is_one_statement_in_its_order() -> None:
    table = RecordingTable()
    group_commit = GroupCommit(table.write)
    table.written.clear()
    first = asyncio.create_task(group_commit.commit(make_writes(make_message("first"))))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    later = asyncio.create_task(commit_all(group_commit, *"abc"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not first.done()
    assert not later.done()
    table.written.set()
    assert await later == [None] * 3
    await first
    assert table.statements == [["first"], ["a", "b", "c"]]


async def test_a_statement_has_a_bounded_number_of_units_of_work() -> None:
    table = RecordingTable()
    await commit_all(GroupCommit(table.write), *map(str, range(250)))
    assert [len(keys) for keys in table.statements] == [100, 100, 50]
    assert [*chain(*table.statements)] == [*map(str, range(250))]


async def test_who_breaks_a_unique_key_fails_alone() -> None:
    table = RecordingTable()
    results = await commit_all(GroupCommit(table.write), "a", "taken", "b", "taken")
    assert [type(result) for result in results] == [
        type(None),
        asyncpg.UniqueViolationError,
        type(None),
        asyncpg.UniqueViolationError,
    ]
    assert sorted(chain(*table.statements)) == ["a", "b"]


async def test_when_nobody_knows_what_was_committed_all_are_told_and_nothing_is_written_again() -> None:
    table = RecordingTable()
    group_commit = GroupCommit(table.write)
    table.error = ConnectionResetError("in the middle of the answer")
    assert [type(result) for result in await commit_all(group_commit, "a", "b")] == [ConnectionResetError] * 2
    assert table.statements == []
    assert await commit_all(group_commit, "c") == [None]
    assert table.statements == [["c"]]


async def test_who_has_gone_harms_nobody_and_is_committed() -> None:
    table = RecordingTable()
    group_commit = GroupCommit(table.write)
    table.written.clear()
    waiting = [asyncio.create_task(group_commit.commit(make_writes(make_message(key)))) for key in "ab"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    table.written.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1] is None
    assert table.statements == [["a", "b"]]


async def test_many_at_once_in_a_database_each_have_their_own_end(database: Database) -> None:
    key = str(new_id())

    async def store(index: int) -> None:
        pending = PendingWrites([make_response(f"{key} {index // 2}")], [], [make_message(f"{key} {index // 2}")])
        await database.group_commit.commit(pending)

    results = await asyncio.gather(*(store(index) for index in range(20)), return_exceptions=True)
    assert sum(result is None for result in results) == 10
    assert sum(isinstance(result, asyncpg.UniqueViolationError) for result in results) == 10
    assert await database.fetchval("SELECT count(*) FROM outbox WHERE starts_with(key, $1)", key) == 10


def test_a_response_is_kept_as_long_as_the_contract_says() -> None:
    assert make_response("k").retention == RESPONSE_RETENTION == timedelta(days=7)
