"""A message is new to a consumer once; one that comes again is counted, at no cost to one that comes once."""

from collections.abc import AsyncIterator

import pytest

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
        assert await uow.claim_messages("reader", [known]) == {known.id}
        assert count_statements(database) == before + 1
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("reader", [known, new, known]) == {new.id}
    async with database.unit_of_work() as uow:
        assert await uow.claim_messages("another reader", [known]) == {known.id}
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
        assert await uow.claim_messages("twice", [delivery, delivery]) == {delivery.id}
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
        assert await uow.claim_messages("rolled back", [delivery]) == {delivery.id}
