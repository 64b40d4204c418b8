"""What must hold of each schedule when it has come to rest (I1 to I8), by SQL of its own: nothing asks the shop."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from caravan.runtime import Backends
from tests.simulation.driver import Group
from tests.simulation.schedule import Order, Schedule
from tests.simulation.shop import NAMES, PRICE

HOLD = timedelta(seconds=600)
MAILS = {
    "delivered": {"order_received", "order_confirmed", "order_shipped"},
    "rejected": {"order_received", "order_rejected"},
    "payment_failed": {"order_received", "payment_failed"},
    "cancelled": {"order_received", "order_cancelled"},
    "refunded": {"order_received", "order_cancelled"},
}
MORE_MAILS = {"refunded": {"order_confirmed"}}
"""What an order that ended so may have had before."""
QUERIES = {
    "events": ("orders", "SELECT stream AS id, version, type, time FROM event WHERE stream = ANY($1) ORDER BY 1, 2"),
    "summaries": ("orders_read", "SELECT id, status, version, refunded FROM order_summary WHERE id = ANY($1)"),
    "sagas": ("processing", "SELECT order_id AS id, * FROM saga WHERE order_id = ANY($1)"),
    "reservations": ("inventory", "SELECT order_id AS id, state, reason FROM reservation WHERE order_id = ANY($1)"),
    "payments": ("payments", "SELECT order_id AS id, * FROM payment WHERE order_id = ANY($1)"),
    "attempts": ("payments", "SELECT order_id AS id, * FROM payment_attempt WHERE order_id = ANY($1) ORDER BY attempt"),
    "refunds": ("payments", "SELECT order_id AS id, * FROM refund WHERE order_id = ANY($1)"),
    "ledger": ("payments", "SELECT reference::uuid AS id, * FROM provider_ledger WHERE reference::uuid = ANY($1)"),
    "shipments": ("shipping", "SELECT order_id AS id, status FROM shipment WHERE order_id = ANY($1)"),
    "mails": ("notifications", "SELECT about::uuid AS id, kind FROM notification WHERE order_id = ANY($1)"),
}

Rows = dict[str, dict[UUID, list[asyncpg.Record]]]


async def check_group(group: Group, backends: Backends) -> None:
    """Adds to each schedule what does not hold of it, and to the group which branches were reached."""
    connections = {
        name: await asyncpg.connect(backends.get_database_url(name))
        for name in ("orders", "orders_read", "processing", "inventory", "payments", "shipping", "notifications")
    }
    try:
        orders = [order.order_id for schedule in group.schedules for order in schedule.orders]
        rows: Rows = {}
        for name, (database, query) in QUERIES.items():
            rows[name] = defaultdict(list)
            for row in await connections[database].fetch(query, orders):
                rows[name][row["id"]].append(row)
        skus = [schedule.sku for schedule in group.schedules]
        stocks = {row["sku"]: row for row in await _fetch(connections["inventory"], "stock", "sku", skus)}
        movements = defaultdict(list)
        for row in await _fetch(connections["inventory"], "movement", "sku", skus, "ORDER BY sku, version"):
            movements[row["sku"]].append(row)
        handled = await _fetch_handled(connections, orders)
        for schedule in group.schedules:
            found = [text for order in schedule.orders for text in _check_order(order, rows, group.reached)]
            found += _check_stock(schedule, stocks.get(schedule.sku), movements[schedule.sku], rows)
            found += _check_delivered(schedule, handled)
            schedule.violations += found
        await _check_whole(connections, group)
        await _count_reached(connections, rows, orders, group.reached)
    finally:
        for connection in connections.values():
            await connection.close()


async def _fetch(
    connection: asyncpg.Connection, table: str, column: str, values: list[Any], more: str = ""
) -> list[asyncpg.Record]:
    return list(await connection.fetch(f"SELECT * FROM {table} WHERE {column} = ANY($1) {more}", values))


async def _fetch_handled(connections: dict[str, asyncpg.Connection], orders: list[UUID]) -> set[tuple[str, UUID]]:
    handled: set[tuple[str, UUID]] = set()
    for database in NAMES:
        query = "SELECT consumer, message_id FROM inbox WHERE key = ANY($1)"
        handled |= {(row[0], row[1]) for row in await connections[database].fetch(query, orders)}
    return handled


def _check_order(order: Order, rows: Rows, reached: Counter[str]) -> Iterable[str]:
    """I1, I2, I6, I8 and I12 of one order, then its money."""
    name, order_id = f"#{order.number}", order.order_id
    events, summaries = rows["events"][order_id], rows["summaries"][order_id]
    if not events or not summaries:
        yield f"I1 {name} was accepted and is not stored"
        return
    if [row["version"] for row in events] != list(range(1, len(events) + 1)):
        yield f"I8 the versions of {name} have holes"
    status = summaries[0]["status"]
    reached[f"end: {status}"] += 1
    if summaries[0]["version"] != len(events):
        yield f"I8 the read side of {name} is at {summaries[0]['version']} of {len(events)}"
    if status not in MAILS:
        yield f"I2 {name} rests as {status}"
        return
    if [row["closed"] for row in rows["sagas"][order_id]] != [True]:
        yield f"I2 the saga of {name} is not closed: {rows['sagas'][order_id]}"
    types = [row["type"].rpartition(".")[2] for row in events]
    if "CancellationRequested" in types and not {"OrderCancelled", "OrderCancellationRefused"} & set(types):
        yield f"I12 the cancellation of {name} was never answered"
    if order.cancelled_at and "CancellationRequested" not in types and status not in ("cancelled", "refunded"):
        yield f"I12 the accepted cancellation of {name} is not stored"
    mails = Counter(row["kind"] for row in rows["mails"][order_id])
    refused = {"order_cancellation_refused"} if "OrderCancellationRefused" in types else set()
    if any(count > 1 for count in mails.values()):
        yield f"I6 {name} has two mails of one kind: {mails}"
    needed = MAILS[status] | {kind for kind in mails if "refused" in kind and refused}
    if not needed <= mails.keys() <= needed | MORE_MAILS.get(status, set()):
        yield f"I6 {name} is {status} and has the mails {sorted(mails)}"
    yield from _check_money(order, status, rows)
    yield from _check_parcel(order, status, rows)


def _check_money(order: Order, status: str, rows: Rows) -> Iterable[str]:
    """I3: what the provider keeps is what the order's end says, and our books say the same."""
    name, order_id = f"#{order.number}", order.order_id
    ledger = rows["ledger"][order_id]
    captured = [row for row in ledger if row["outcome"] == "captured"]
    refunded = sum(row["amount"] for row in ledger if row["outcome"] == "refunded")
    total = PRICE * order.quantity
    kept = sum(row["amount"] for row in captured) - refunded
    if len(captured) > 1:
        yield f"I3 {name} was charged {len(captured)} times"
    if kept != (total if status == "delivered" else 0):
        yield f"I3 {name} is {status} and the provider keeps {kept} of {total}"
    if refunded > sum(row["amount"] for row in captured):
        yield f"I3 {name} was given back {refunded}, more than was charged"
    if (status == "refunded") != (refunded > 0):
        yield f"I3 {name} is {status}, given back were {refunded}"
    ours = {f"{order_id}:{row['attempt']}": row["state"] for row in rows["attempts"][order_id]}
    theirs = {row["key"]: row["outcome"] for row in ledger if row["kind"] == "capture"}
    if ours != theirs:
        yield f"I3 our attempts of {name} are {ours}, the provider's {theirs}"
    given_back = sum(row["amount"] for row in rows["refunds"][order_id] if row["state"] == "done")
    if given_back != refunded or any(row["state"] != "done" for row in rows["refunds"][order_id] if row["amount"]):
        yield f"I3 our refunds of {name} are {given_back}, the provider's {refunded}"
    expected = {"delivered": {"completed"}, "refunded": {"refunded"}}.get(
        status, {"failed", "voided", "expected"} if status in ("rejected", "payment_failed") else {"voided", "failed"}
    )
    for row in rows["payments"][order_id]:
        if row["status"] not in expected:
            yield f"I3 {name} is {status}, its payment {row['status']}"
    if order.cancelled_at and order.was_held:
        for row in rows["attempts"][order_id]:
            if order.cancelled_at < row["started_at"] < order.cancelled_at + HOLD:
                yield f"I12 attempt {row['attempt']} of {name} began after its cancellation was accepted"


def _check_parcel(order: Order, status: str, rows: Rows) -> Iterable[str]:
    """I5, and what was shipped is what was delivered."""
    name, order_id = f"#{order.number}", order.order_id
    states = {row["state"] for row in rows["reservations"][order_id]}
    if "held" in states:
        yield f"I5 {name} is {status} and still holds stock"
    if ("shipped" in states) != (status == "delivered"):
        yield f"I4 {name} is {status}, its reservation {sorted(states)}"
    shipped = {row["status"] for row in rows["shipments"][order_id]} - {"cancelled"}
    if shipped != ({"delivered"} if status == "delivered" else set()):
        yield f"I2 {name} is {status}, its parcel {sorted(shipped)}"


def _check_stock(schedule: Schedule, stock: Any, movements: list[asyncpg.Record], rows: Rows) -> Iterable[str]:
    """I4: nothing came, went or was sold twice; and never was there less than nothing."""
    sold = sum(
        order.quantity
        for order in schedule.orders
        for row in rows["reservations"][order.order_id]
        if row["state"] == "shipped"
    ) - sum(schedule.short.values())
    on_hand = schedule.stock + schedule.moved - sold
    if (stock["on_hand"], stock["reserved"], stock["shipped"]) != (on_hand, 0, sold):
        yield f"I4 {dict(stock)}: {schedule.stock} at first, {schedule.moved} by hand, {sold} sold"
    if [row["version"] for row in movements] != list(range(1, stock["version"] + 1)):
        yield "I8 the ledger of stock has holes"
    if any(not 0 <= row["reserved"] <= row["on_hand"] for row in movements):
        yield "I4 stock was negative or sold twice for a while"
    if movements and (movements[-1]["on_hand"], movements[-1]["reserved"]) != (stock["on_hand"], stock["reserved"]):
        yield "I4 the ledger of stock does not end where the stock is"


def _check_delivered(schedule: Schedule, handled: set[tuple[str, UUID]]) -> Iterable[str]:
    """I7: each message has reached each of its readers."""
    for reader, sent in schedule.sent.items():
        for message_id, label in sent.items():
            if (reader, message_id) not in handled:
                yield f"I7 {reader} never handled {label} {message_id}"
    for reader, waiting in schedule.waiting.items():
        if waiting:
            yield f"I7 {len(waiting)} messages wait for {reader}"


async def _check_whole(connections: dict[str, asyncpg.Connection], group: Group) -> None:
    """What belongs to no schedule is told of the first."""
    found = []
    for database in NAMES:
        if count := await connections[database].fetchval("SELECT count(*) FROM outbox"):
            found.append(f"I7 {count} rows in the outbox of {database}")
    query = "SELECT coalesce(max(number), 0) - count(*) FROM invoice"
    if holes := await connections["payments"].fetchval(query):
        found.append(f"I3 the numbers of invoices have {holes} holes")
    group.schedules[0].violations += found


async def _count_reached(
    connections: dict[str, asyncpg.Connection], rows: Rows, orders: list[UUID], reached: Counter[str]
) -> None:
    """The branches of interest that the books tell of."""
    sagas = [row for each in rows["sagas"].values() for row in each]
    steps = [[step[0] for step in _read_history(row)] for row in sagas]
    reached["step sent again after its deadline"] += sum(row["reminders"] > 0 for row in sagas)
    reached["cancellation too late: refused"] += sum("refuse_cancellation" in each for each in steps)
    reached["shipment stopped in time"] += sum(row["parcel"] == "stopped" for row in sagas)
    reached["shipment could not be stopped"] += sum(
        "cancel_shipment" in each and row["parcel"] == "delivered" for each, row in zip(steps, sagas, strict=True)
    )
    reached["reservation expired"] += sum(row["reason"] == "reservation expired" for row in sagas)
    reached["no answer from inventory in time"] += sum("no answer" in row["reason"] for row in sagas)
    reached["refund asked for before the charge was known"] += sum(
        "refund_payment" in each and row["captured"] == 0 for each, row in zip(steps, sagas, strict=True)
    )
    reached["refund asked for twice"] += sum(row["asked"] > 1 for each in rows["refunds"].values() for row in each)
    attempts = [row for each in rows["attempts"].values() for row in each]
    reached["charge asked for twice with one key"] += sum(row["asked"] > 1 for row in attempts)
    reached["charged at a later attempt"] += sum(row["attempt"] > 1 and row["state"] == "captured" for row in attempts)
    reached["cancelled before it was charged"] += sum(
        row["status"] == "voided" for each in rows["payments"].values() for row in each
    )
    for database in NAMES:
        query = "SELECT coalesce(sum(refused), 0) FROM inbox WHERE key = ANY($1)"
        reached["repeated message refused by the inbox"] += await connections[database].fetchval(query, orders)


def _read_history(row: asyncpg.Record) -> list[list[Any]]:
    return list(orjson.loads(row["history"]))
