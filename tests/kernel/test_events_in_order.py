"""The store hands out all events in the order of their transactions, as numbers."""

from caravan.clock import new_id
from caravan.runtime import Backends
from services.orders.model import STORE
from tests.shop import running


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
