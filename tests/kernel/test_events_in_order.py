"""The store hands out all events in the order of their transactions, as numbers, and those of a stream in the order of their versions."""

from itertools import pairwise

from caravan.clock import new_id
from caravan.events import Recorded
from caravan.runtime import Backends
from services.orders.model import STORE, CancellationRequested
from tests.shop import running, until


class Undo(Exception):
    """Ends a unit of work without writing."""


async def test_a_transaction_with_more_digits_comes_after_one_with_fewer(backends: Backends) -> None:
    transactions = [9, 10, 99, 100]
    async with running(backends, "orders") as shop:
        try:
            async with shop.database("orders").work() as work:
                for transaction in reversed(transactions):
                    await work.execute(
                        "INSERT INTO event (stream, version, type, data_version, data, time, transaction)"
                        " VALUES ($1, 1, 'orders.CancellationRequested', 1, '{\"reason\": \"x\"}', now(), $2::text::xid8)",
                        new_id(),
                        str(transaction),
                    )
                found = await STORE.after(work, (0, 0), 4)
                first = await STORE.after(work, (0, 0), 2)
                raise Undo
        except Undo:
            pass
    assert [recorded.place[0] for recorded in found] == transactions
    assert [recorded.place[0] for recorded in first] == transactions[:2]


async def test_a_stream_stays_in_order_though_a_younger_transaction_appended_first(backends: Backends) -> None:
    """A transaction has its number from its first write, such as claiming a message, and may wait for the stream's lock after that."""
    stream, other = new_id(), new_id()
    async with running(backends, "orders") as shop:
        database = shop.database("orders")
        async with database.work() as work:
            work.append(stream, 0, [CancellationRequested(reason="1")])
        async with database.work() as older:
            await older.claim("test", [new_id()])
            async with database.work() as younger:
                await younger.claim("test", [new_id()])
                younger.append(stream, 1, [CancellationRequested(reason="2")])
            older.append(stream, 2, [CancellationRequested(reason="3"), CancellationRequested(reason="4")])
            older.append(other, 0, [CancellationRequested(reason="1")])

        async def appended() -> list[Recorded] | None:
            found = [recorded for recorded in await STORE.after(database, (0, 0), 100_000) if recorded.stream in (stream, other)]
            return found if len(found) == 5 else None

        feed = await until(appended)
        assert [recorded.version for recorded in feed if recorded.stream == stream] == [1, 2, 3, 4]
        for recorded, following in pairwise(feed):  # no reader that stops in between reads the one without what stood before it
            assert recorded.place < following.place
