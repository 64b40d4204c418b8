"""The order of a timeline: causes first, whatever the clocks say."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from caravan.timeline import HandledMessage, TimelineEntry, TimelinePart
from services.gateway.timeline.difference import compare_moments
from services.gateway.timeline.ordering import Node, order_parts
from services.gateway.timeline.view import build_items

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SKEW = timedelta(minutes=10)


@dataclass
class Clocks:
    """Of each service, by how much it is off."""

    offsets: dict[str, timedelta]

    def at(self, service: str, seconds: int) -> datetime:
        return START + timedelta(seconds=seconds) + self.offsets[service]

    def handle(self, message: UUID, type_name: str, consumer: str, cause: UUID | None, seconds: int) -> HandledMessage:
        return HandledMessage(
            id=message,
            type=type_name,
            channel=consumer,
            channel_type="queue",
            consumer=consumer,
            cause=cause,
            attempt=1,
            refused=2,
            handled_at=self.at(consumer.partition(".")[0], seconds),
        )

    def enter(self, entry_id: str, subject: str, service: str, seconds: int, **fields: object) -> TimelineEntry:
        entry = {"id": entry_id, "source": service, "kind": entry_id, "subject": subject}
        return TimelineEntry.model_validate({**entry, "time": self.at(service, seconds), **fields})


def build_chain(skew: Callable[[], timedelta]) -> list[TimelinePart]:
    """An order, its saga, its stock and its payment, each told by a service with a clock of its own."""
    created, reserve, reserved, capture = (UUID(int=number) for number in range(1, 5))  # no ids with a time in them
    clocks = Clocks({service: skew() for service in ("orders", "processing", "inventory", "payments")})
    enter, handle = clocks.enter, clocks.handle
    return [
        TimelinePart(
            entries=[
                enter("event:1", "order", "orders", 0, announces=["orders.OrderCreated"], state={"status": "created"}),
                enter("event:2", "order", "orders", 4, cause=str(reserved), state={"status": "reserved"}),
            ],
            handled=[handle(reserved, "inventory.InventoryReserved", "orders.inventory-reserved", reserve, 4)],
        ),
        TimelinePart(
            entries=[
                enter("saga:1", "saga", "processing", 1, cause=str(created), announces=["inventory.ReserveStock"]),
                enter("saga:2", "saga", "processing", 5, cause=str(reserved), announces=["payments.CapturePayment"]),
            ],
            handled=[
                handle(created, "orders.OrderCreated", "processing.order-created", None, 1),
                handle(reserved, "inventory.InventoryReserved", "processing.inventory-reserved", reserve, 5),
            ],
        ),
        TimelinePart(
            entries=[
                enter("stock", "stock", "inventory", 2, cause=str(reserve)),
                enter("held", "held", "inventory", 2, cause=str(reserve), announces=["inventory.InventoryReserved"]),
            ],
            handled=[handle(reserve, "inventory.ReserveStock", "inventory.reserve-stock", created, 2)],
        ),
        TimelinePart(
            entries=[enter("call", "payment", "payments", 6, cause=str(capture))],
            handled=[handle(capture, "payments.CapturePayment", "payments.capture", reserved, 6)],
        ),
    ]


def list_ids(nodes: list[Node]) -> list[str]:
    return [node.entry.id for node in nodes]


def test_causes_come_first_with_clocks_ten_minutes_off() -> None:
    for seed in range(200):
        generator = random.Random(seed)
        check_causes(order_parts(build_chain(lambda: generator.uniform(-1, 1) * SKEW)))  # noqa: B023


def test_causes_come_first_while_orders_tell_nothing() -> None:
    """Then nothing else is taken for the beginning of the order, such as what the first service tells first."""
    for seed in range(50):
        generator = random.Random(seed)
        _, *parts = build_chain(lambda: generator.uniform(-1, 1) * SKEW)  # noqa: B023
        for each in (parts, list(reversed(parts))):
            ids = list_ids(order_parts(each))
            positions = {entry_id: position for position, entry_id in enumerate(ids)}
            chain = [str(UUID(int=1)), "saga:1", str(UUID(int=2)), "held", str(UUID(int=3)), "saga:2"]
            chain += [str(UUID(int=4)), "call"]
            assert [entry_id for entry_id in ids if entry_id in chain] == chain
            assert positions[str(UUID(int=2))] < positions["stock"]


def check_causes(nodes: list[Node]) -> None:
    positions = {entry_id: position for position, entry_id in enumerate(list_ids(nodes))}
    assert len(positions) == len(nodes) == 11
    assert nodes[0].entry.id == "event:1"
    for node in nodes[1:]:
        assert node.entry.cause is not None
        assert positions[node.entry.cause] < positions[node.entry.id]
    for before, after in (("event:1", "event:2"), ("saga:1", "saga:2"), ("held", "event:2"), ("saga:2", "call")):
        assert positions[before] < positions[after]
    assert [node.causal_time for node in nodes] == sorted(node.causal_time for node in nodes)


def test_a_message_follows_the_entry_that_it_went_out_with() -> None:
    nodes = {node.entry.kind: node for node in order_parts(build_chain(timedelta))}
    assert nodes["orders.OrderCreated"].entry.cause == "event:1"
    assert nodes["inventory.ReserveStock"].entry.cause == "saga:1"
    assert nodes["inventory.InventoryReserved"].entry.cause == "held"
    assert [(count.consumer, count.deliveries) for count in nodes["inventory.InventoryReserved"].deliveries] == [
        ("orders.inventory-reserved", 3),
        ("processing.inventory-reserved", 3),
    ]


def test_causes_in_a_circle_end_nowhere_else() -> None:
    entries = [
        TimelineEntry(id=name, source="x", kind=name, subject=name, time=START, cause=cause)
        for name, cause in (("first", None), ("one", "two"), ("two", "one"))
    ]
    assert list_ids(order_parts([TimelinePart(entries=entries)])) == ["first", "one", "two"]


def test_a_customer_sees_causes_beyond_what_is_hidden() -> None:
    parts = build_chain(timedelta)
    for entry in parts[1].entries:
        entry.is_internal = True
    parts[0].entries[0].actor = "customer:ada"
    parts[0].entries[0].internal = {"key": "secret"}
    nodes = order_parts(parts)
    items = {item.id: item for item in build_items(nodes, is_staff=False)}
    assert set(items) == {"event:1", "event:2", "stock", "held", "call"}
    assert items["stock"].cause == "event:1"
    assert items["event:2"].cause == "held"
    assert items["event:1"].actor == "customer"
    assert all(not item.deliveries and "key" not in item.details for item in items.values())
    staff = {item.id: item for item in build_items(nodes, is_staff=True)}
    assert staff["event:1"].actor == "customer:ada"
    assert staff["event:1"].details == {"key": "secret"}


def test_the_difference_of_two_moments() -> None:
    items = build_items(order_parts(build_chain(timedelta)), is_staff=True)
    difference = compare_moments(items, START + timedelta(seconds=1), START + timedelta(seconds=4))
    assert [(change.subject, change.field, change.before, change.after) for change in difference.changes] == [
        ("order", "status", "created", "reserved")
    ]
    assert "event:2" in difference.items
    assert "event:1" not in difference.items
    assert compare_moments(items, None, START).changes[0].before is None
