"""A message is new to a consumer once; one that comes again is counted, at no cost to one that comes once."""

from collections.abc import AsyncIterator

import pytest
from asyncpg import DataError

from caravan.clock import new_id
from caravan.database import Database
from caravan.runtime import Backends
from tests.support.database import count_statements, open_kernel_database
from tests.support.deliveries import build_delivery


@pytest.fixture
async def database(backends: Backends) -> AsyncIterator[Database]:
    async with open_kernel_database(backends, "orders") as opened:
        yield opened


async def test_a_message_that_comes_again_is_refused_and_counted(database: Database) -> None:
    known, new = build_delivery(key=str(new_id())), build_delivery(attempt=2)
    async with database.unit_of_work() as uow:
        await uow.fetch("SELECT 1")
        before = count_statements(database)
        assert await uow.claim_messages("reader", [known]) == [known]
        assert count_statements(database) == before + 1
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("reader", [known, new, known]) == [new]
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("another reader", [known]) == [known]
    rows = await database.fetch(
        "SELECT key, attempt, refused FROM inbox WHERE consumer = 'reader' ORDER BY refused NULLS LAST"
    )
    assert [(str(row["key"]), row["attempt"], row["refused"]) for row in rows] == [
        (known.key, None, 2),
        ("None", 2, None),
    ]


async def test_one_that_comes_twice_in_a_batch_is_new_once(database: Database) -> None:
    delivery = build_delivery()
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("twice", [delivery, delivery]) == [delivery]
    assert await database.fetchval("SELECT refused FROM inbox WHERE consumer = 'twice'") == 1


async def test_what_is_rolled_back_is_new_again(database: Database) -> None:
    delivery = build_delivery()

    async def claim_and_fail() -> None:
        async with database.unit_of_work() as uow:
            await uow.claim_messages("rolled back", [delivery])
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await claim_and_fail()
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("rolled back", [delivery]) == [delivery]


@pytest.mark.parametrize("count", [1, 40], ids=["in the text that begins", "with parameters"])
@pytest.mark.parametrize("key", ["'); DELETE FROM inbox; --", "'); DELETE FROM inbox WHERE true; ----", "\\'", ""])
async def test_a_foreign_key_is_no_part_of_the_statement(database: Database, key: str, count: int) -> None:
    deliveries = [build_delivery(key=key) for _ in range(count)]
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("careful", deliveries) == deliveries
    rows = await database.fetch("SELECT key FROM inbox WHERE message_id = ANY($1)", [each.id for each in deliveries])
    assert [row["key"] for row in rows] == [None] * count


async def test_a_claim_that_fails_leaves_its_connection_usable(database: Database) -> None:
    with pytest.raises(DataError):
        async with database.unit_of_work() as uow:
            await uow.begin_with("SELECT 1 / 0")
    async with database.unit_of_work() as uow:
        assert await uow.begin_with("SELECT 1") == 1
        assert await uow.fetchval("SELECT now() < clock_timestamp()"), "in the transaction that it began"
