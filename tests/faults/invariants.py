"""What must hold after everything has come to rest, read from all databases by an independent reader."""

import asyncio
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import orjson

from caravan.runtime import BUS, Backends
from services.registry import load_services

TERMINAL = ("delivered", "rejected", "payment_failed", "cancelled", "refunded")


def backends_of(data: Path) -> Backends:
    servers = orjson.loads((data / "backends.json").read_text())
    return Backends(servers["database_url"], servers["redis_url"], (data / "secret").read_text().strip())


async def rows(backends: Backends, database: str, query: str, *arguments: Any) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(backends.get_database_url(database))
    try:
        return list(await connection.fetch(query, *arguments))
    finally:
        await connection.close()


class Wire(Protocol):
    """What carries the messages, as an onlooker sees it."""

    async def unread(self) -> int:
        """Messages that some reader has not dealt with."""

    async def faults(self) -> list[str]:
        """Dead letters, messages that are not what they were, and readers that one passed by."""


class InPostgres:
    """The embedded bus."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    async def unread(self) -> int:
        waiting = (
            "SELECT (SELECT count(*) FROM delivery) + (SELECT count(*) FROM cursor c JOIN topic_log l ON l.topic = "
            "c.topic AND l.position > c.position)"
        )
        return int((await rows(self._backends, BUS, waiting))[0][0])

    async def faults(self) -> list[str]:
        dead = await rows(self._backends, BUS, "SELECT subscription, reason FROM dead_letter")
        found = [f"dead letter of {row['subscription']}: {row['reason']}" for row in dead]
        twice = await rows(
            self._backends,
            BUS,
            "SELECT topic, message_id, count(DISTINCT body) FROM topic_log GROUP BY 1, 2 HAVING count(DISTINCT body) "
            "> 1",
        )
        return found + [f"{row['topic']} has two messages {row['message_id']}" for row in twice]


async def at_rest(backends: Backends, wire: Wire | None = None) -> str:
    """Empty when nothing is on its way any more; otherwise what is. `wire`: by default the embedded bus."""
    for service in load_services():
        if service.databases and (
            waiting := (await rows(backends, service.databases[0].name, "SELECT count(*) FROM outbox"))[0][0]
        ):
            return f"{waiting} rows in the outbox of {service.name}"
    if unread := await (wire or InPostgres(backends)).unread():
        return f"{unread} messages on the bus"
    open_orders = await rows(
        backends, "orders_read", "SELECT id, status FROM order_summary WHERE status <> ALL($1)", TERMINAL
    )
    if open_orders:
        return f"order {open_orders[0]['id']} is {open_orders[0]['status']}, and {len(open_orders) - 1} more"
    sagas = (await rows(backends, "processing", "SELECT count(*) FROM saga WHERE NOT closed"))[0][0]
    mails = (await rows(backends, "notifications", "SELECT count(*) FROM notification WHERE state = 'pending'"))[0][0]
    return f"{sagas} open sagas, {mails} pending mails" if sagas or mails else ""


async def violations(backends: Backends, accepted: set[str], wire: Wire | None = None) -> list[str]:
    """Every invariant that does not hold, in words. `accepted`: the ids that clients got with a 202."""
    checks = (_orders, _money, _stock, _mails, _versions)
    found = await asyncio.gather(
        (wire or InPostgres(backends)).faults(), *(check(backends, accepted) for check in checks)
    )
    return [violation for part in found for violation in part]


async def _orders(backends: Backends, accepted: set[str]) -> list[str]:
    stored = {
        str(row["id"]): row["status"]
        for row in await rows(backends, "orders_read", "SELECT id, status FROM order_summary")
    }
    found = [f"accepted order {order_id} is not stored" for order_id in accepted - stored.keys()]
    return found + [
        f"order {order_id} rests as {status}" for order_id, status in stored.items() if status not in TERMINAL
    ]


async def _money(backends: Backends, _: set[str]) -> list[str]:
    owed = {
        row["id"]: row["total"]
        for row in await rows(backends, "orders_read", "SELECT id, total FROM order_summary WHERE status = 'delivered'")
    }
    ledger = await rows(
        backends,
        "payments",
        "SELECT reference, outcome, amount FROM provider_ledger WHERE outcome IN ('captured', 'refunded')",
    )
    kept: dict[str, int] = {}
    captures: dict[str, int] = {}
    for row in ledger:
        sign = 1 if row["outcome"] == "captured" else -1
        kept[row["reference"]] = kept.get(row["reference"], 0) + sign * row["amount"]
        captures[row["reference"]] = captures.get(row["reference"], 0) + (row["outcome"] == "captured")
    found = [f"the provider charged {reference} {count} times" for reference, count in captures.items() if count > 1]
    found += [
        f"the provider keeps {amount} of {reference}, the order is worth {owed.get(_uuid(reference), 0)}"
        for reference, amount in kept.items()
        if amount != owed.get(_uuid(reference), 0)
    ]
    found += [f"delivered order {order_id} was not charged" for order_id in owed if kept.get(str(order_id), 0) == 0]
    ours = await rows(backends, "payments", "SELECT order_id, amount, status FROM payment WHERE status = 'completed'")
    found += [
        f"we say {row['order_id']} paid {row['amount']}, the provider {kept.get(str(row['order_id']))}"
        for row in ours
        if kept.get(str(row["order_id"])) != row["amount"]
    ]
    numbers = [row["number"] for row in await rows(backends, "payments", "SELECT number FROM invoice ORDER BY number")]
    if numbers != list(range(1, len(numbers) + 1)):
        found.append(f"invoice numbers have holes: {numbers}")
    return found


def _uuid(text: str) -> Any:
    from uuid import UUID

    return UUID(text)


async def _stock(backends: Backends, _: set[str]) -> list[str]:
    found = [
        f"stock of {row['sku']}: {row['on_hand']} here + {row['shipped']} shipped is not {row['received']} received + "
        f"{row['adjusted']} adjusted"
        for row in await rows(backends, "inventory", "SELECT * FROM stock")
        if row["on_hand"] + row["shipped"] != row["received"] + row["adjusted"]
        or row["reserved"] < 0
        or row["reserved"] > row["on_hand"]
    ]
    found += [
        f"{row['sku']} has {row['reserved']} reserved with every order at rest"
        for row in await rows(backends, "inventory", "SELECT * FROM stock WHERE reserved <> 0")
    ]
    delivered = {
        row["id"]
        for row in await rows(backends, "orders_read", "SELECT id FROM order_summary WHERE status = 'delivered'")
    }
    shipped = {
        row["order_id"]
        for row in await rows(backends, "inventory", "SELECT order_id FROM reservation WHERE state = 'shipped'")
    }
    return found + [
        f"order {order_id} is delivered or its stock shipped, but not both" for order_id in delivered ^ shipped
    ]


async def _mails(backends: Backends, _: set[str]) -> list[str]:
    twice = await rows(
        backends, "notifications", "SELECT about, kind FROM notification GROUP BY 1, 2 HAVING count(*) > 1"
    )
    return [f"two notifications {row['kind']} about {row['about']}" for row in twice]


async def _versions(backends: Backends, _: set[str]) -> list[str]:
    query = "SELECT stream FROM event GROUP BY stream HAVING count(*) <> max(version)"
    return [f"versions of {row['stream']} have holes" for row in await rows(backends, "orders", query)]
