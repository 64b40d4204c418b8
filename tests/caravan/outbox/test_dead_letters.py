"""Rows that the bus refused are listed with their reason, sent again or discarded; what merely waits is only seen."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from caravan.clock import utc_now
from caravan.database import Database
from caravan.messages import Event, Topic
from caravan.outbox import OutboxDeadLetters, count_pending
from caravan.runtime import Backends
from tests.support.database import open_kernel_database


class Noted(Event):
    text: str


NOTED = Topic("noted", owner="kernel", events=(Noted,), key="text", purpose="test")


@pytest.fixture(scope="module")
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "kernel_unsent") as opened:
        yield opened


@pytest.fixture
async def outbox(database: Database) -> OutboxDeadLetters:
    await database.fetch("TRUNCATE outbox")
    async with database.unit_of_work() as uow:
        for text, key in (("refused", "k"), ("behind", "k"), ("stale", "s"), ("new", "n"), ("refused too", "l")):
            uow.emit(NOTED, Noted(text=text), key=key)
    await database.fetch(
        "UPDATE outbox SET refused_at = now(), reason = 'too large' WHERE convert_from(body, 'UTF8') LIKE '%refused%'"
    )
    await database.fetch("UPDATE outbox SET created_at = $1 WHERE key IN ('s', 'k')", utc_now() - timedelta(minutes=6))
    database.outbox_written.clear()
    return OutboxDeadLetters(database)


async def test_what_was_refused_and_what_waits_for_minutes_is_listed_with_why(outbox: OutboxDeadLetters) -> None:
    listed = await outbox.list_dead_letters(10, 1000)
    assert [(each.key, each.reason.partition(";")[0], each.redrivable) for each in listed] == [
        ("k", "too large", True),
        ("k", "waits behind a refused row of its key", False),
        ("s", "the bus has not taken it for minutes", False),
        ("l", "too large", True),
    ]
    assert {each.subscription for each in listed} == {"kernel_unsent.outbox"}
    assert {each.channel for each in listed} == {"noted"}


async def test_a_list_is_bounded_and_shows_beginnings(outbox: OutboxDeadLetters) -> None:
    (first,) = await outbox.list_dead_letters(1, 12)
    (whole,) = await outbox.list_dead_letters(1, 10_000)
    assert first.body == whole.body[:12]
    assert first.size == whole.size == len(whole.body)


async def test_a_redrive_lets_the_relay_try_again_and_wakes_it(outbox: OutboxDeadLetters, database: Database) -> None:
    listed = await outbox.list_dead_letters(10, 100)
    assert await outbox.redrive(listed) == 2, "only what was refused"
    assert database.outbox_written.is_set()
    assert await database.fetchval("SELECT count(*) FROM outbox WHERE refused_at IS NOT NULL OR reason <> ''") == 0
    assert await count_pending(database) == 5
    assert await outbox.redrive(listed) == 0, "somebody else was first"


async def test_a_discard_removes_what_was_refused_and_nothing_that_may_still_be_sent(
    outbox: OutboxDeadLetters, database: Database
) -> None:
    listed = await outbox.list_dead_letters(10, 100)
    assert await outbox.discard(listed) == 2
    assert database.outbox_written.is_set(), "what waited behind it is free now"
    assert await count_pending(database) == 3
    assert await outbox.discard(listed) == 0
