"""An order and its cancellation may be the first two messages of a saga, at the same moment: neither is lost."""

import asyncio
from datetime import UTC, datetime

import pytest

from caravan.clock import new_id
from caravan.database import VersionConflict
from caravan.runtime import Backends
from services.processing import store
from services.processing.model import Saga
from services.processing.store import SagaRow
from tests.support.shop import run_services

NOW = datetime(2026, 1, 1, tzinfo=UTC)


async def test_of_two_that_both_find_no_saga_the_second_decides_anew(backends: Backends) -> None:
    order_id = new_id()
    async with run_services(backends, "processing") as shop:
        database = shop.get_database("processing")

        async def cancel_too() -> None:
            async with database.unit_of_work() as second:
                assert await store.lock_sagas(second, [order_id]) == {}
                found_nothing.set()
                await begun.wait()
                await store.save_sagas(
                    second, [SagaRow(Saga(order_id, cancel_reason="changed my mind", version=1), NOW)]
                )

        found_nothing, begun = asyncio.Event(), asyncio.Event()
        async with database.unit_of_work() as first:
            assert await store.lock_sagas(first, [order_id]) == {}
            second = asyncio.create_task(cancel_too())
            await found_nothing.wait()
            await store.save_sagas(first, [SagaRow(Saga(order_id, stock="asked", version=1), NOW)])
            begun.set()
        with pytest.raises(VersionConflict):
            await second
        async with database.unit_of_work() as third:
            row = (await store.lock_sagas(third, [order_id]))[order_id]
            assert (row.saga.stock, row.saga.cancel_reason) == ("asked", None)
            row.saga.cancel_reason = "changed my mind"
            row.saga.version += 1
            await store.save_sagas(third, [row])
        async with database.unit_of_work() as fourth:
            row = (await store.lock_sagas(fourth, [order_id]))[order_id]
            assert (row.saga.stock, row.saga.cancel_reason, row.saga.version) == ("asked", "changed my mind", 2)
