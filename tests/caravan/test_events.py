"""The store hands out all events in the order of their transactions, as numbers, and those of a stream in the order of
their versions; stored events of earlier versions are read as today's.
"""

from itertools import pairwise
from uuid import UUID

import pytest

from caravan.clock import new_id
from caravan.events import EventStore, RecordedEvent
from caravan.messages import Event
from caravan.runtime import Backends
from services.orders.model import EVENT_STORE, CancellationRequested
from tests.support.deliveries import build_delivery
from tests.support.shop import run_services, wait_until


class Undo(Exception):
    """Ends a unit of work without writing."""


async def test_a_transaction_with_more_digits_comes_after_one_with_fewer(backends: Backends) -> None:
    transactions = [9, 10, 99, 100]
    async with run_services(backends, "orders") as shop:
        try:
            async with shop.get_database("orders").unit_of_work() as uow:
                for transaction in reversed(transactions):
                    await uow.execute(
                        "INSERT INTO event (stream, version, type, data_version, data, time, transaction)"
                        " VALUES ($1, 1, 'orders.CancellationRequested', 1, '{\"reason\": \"x\"}', now(), "
                        "$2::text::xid8)",
                        new_id(),
                        str(transaction),
                    )
                found = await EVENT_STORE.read_feed(uow, (0, 0), 4)
                first = await EVENT_STORE.read_feed(uow, (0, 0), 2)
                raise Undo
        except Undo:
            pass
    assert [recorded.feed_position[0] for recorded in found] == transactions
    assert [recorded.feed_position[0] for recorded in first] == transactions[:2]


async def test_a_stream_stays_in_order_though_a_younger_transaction_appended_first(backends: Backends) -> None:
    """A transaction has its number from its first write, such as claiming a message, and may wait for the stream's lock
    after that.
    """
    stream, other = new_id(), new_id()
    async with run_services(backends, "orders") as shop:
        database = shop.get_database("orders")
        async with database.unit_of_work() as uow:
            uow.append(stream, 0, [CancellationRequested(reason="1")])
        async with database.unit_of_work() as older:
            await older.claim_messages("test", [build_delivery()])
            async with database.unit_of_work() as younger:
                await younger.claim_messages("test", [build_delivery()])
                younger.append(stream, 1, [CancellationRequested(reason="2")])
            older.append(stream, 2, [CancellationRequested(reason="3"), CancellationRequested(reason="4")])
            older.append(other, 0, [CancellationRequested(reason="1")])

        async def appended() -> list[RecordedEvent] | None:
            found = [
                recorded
                for recorded in await EVENT_STORE.read_feed(database, (0, 0), 100_000)
                if recorded.stream in (stream, other)
            ]
            return found if len(found) == 5 else None

        feed = await wait_until(appended)
        assert [recorded.version for recorded in feed if recorded.stream == stream] == [1, 2, 3, 4]
        for recorded, following in pairwise(
            feed
        ):  # no reader that stops in between reads the one without what stood before it
            assert recorded.feed_position < following.feed_position


async def test_what_an_older_transaction_commits_late_is_not_passed_over(backends: Backends) -> None:
    late, early = new_id(), new_id()
    async with run_services(backends, "orders") as shop:
        database = shop.get_database("orders")

        async def list_streams() -> list[UUID]:
            feed = await EVENT_STORE.read_feed(database, (0, 0), 100_000)
            return [recorded.stream for recorded in feed if recorded.stream in (late, early)]

        async with database.unit_of_work() as older:
            await older.claim_messages("test", [build_delivery()])
            older.append(late, 0, [CancellationRequested(reason="1")])
            async with database.unit_of_work() as younger:
                await younger.claim_messages("test", [build_delivery()])
                younger.append(early, 0, [CancellationRequested(reason="1")])
            meanwhile = await list_streams()
        assert meanwhile == [], "a reader would go on behind it, and never see the older one"

        async def are_both_there() -> bool:
            return await list_streams() == [late, early]

        await wait_until(are_both_there)


class Moved(Event):
    version = 3
    street: str
    country: str


STORE = EventStore(
    [Moved],
    {
        (Moved.type, 1): lambda data: {"street": data["address"]},
        (Moved.type, 2): lambda data: {**data, "country": "GB"},
    },
)


@pytest.mark.parametrize(
    ("version", "data"), [(1, {"address": "A"}), (2, {"street": "A"}), (3, {"street": "A", "country": "GB"})]
)
def test_an_event_of_any_version_becomes_todays(version: int, data: dict[str, str]) -> None:
    assert STORE.decode_event(Moved.type, version, data) == Moved(street="A", country="GB")


def test_a_version_without_a_way_up_is_an_error() -> None:
    with pytest.raises(KeyError):
        EventStore([Moved]).decode_event(Moved.type, 1, {"address": "A"})
