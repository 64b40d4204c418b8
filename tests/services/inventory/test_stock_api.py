"""Movements by hand, the ledger, and the live stream."""

import asyncio
from typing import Any

import asyncpg
import orjson
import pytest

from caravan.cache import Cache, Fill
from caravan.clock import new_id
from services.inventory.caches import STOCK
from services.inventory.store import stock_table
from tests.support.shop import Shop, wait_until

PAGES = Cache("shop.pages", "a page", "sku", (STOCK,), "public", seconds=60.0)


def fresh_sku() -> str:
    return f"T-{new_id().hex[-12:]}"


async def move(shop: Shop, sku: str, kind: str, quantity: int, key: str | None = None, role: str = "staff") -> Any:
    headers = shop.issue_headers(role) | ({"Idempotency-Key": key} if key else {})
    return await shop.client.post(
        f"/v1/stock/{sku}/movements", json={"kind": kind, "quantity": quantity, "reason": "test"}, headers=headers
    )


async def stock(shop: Shop, sku: str) -> dict[str, Any]:
    return dict((await shop.client.get(f"/v1/stock/{sku}")).raise_for_status().json())


async def test_movements_by_hand_add_up_and_stand_in_the_ledger(shop: Shop) -> None:
    sku = fresh_sku()
    assert (await shop.client.get(f"/v1/stock/{sku}")).status_code == 404
    for kind, quantity in (("receive", 10), ("adjust", -3), ("count", 9), ("adjust", 1)):
        assert (await move(shop, sku, kind, quantity)).status_code == 201
    assert await stock(shop, sku) == {"sku": sku, "on_hand": 10, "reserved": 0, "available": 10}
    staff = shop.issue_headers("staff")
    balance = (await shop.client.get(f"/v1/stock/{sku}/balance", headers=staff)).json()
    assert (balance["received"], balance["adjusted"], balance["shipped"], balance["version"]) == (10, 0, 0, 4)
    first = (await shop.client.get(f"/v1/stock/{sku}/movements?limit=3", headers=staff)).json()
    await move(shop, sku, "receive", 1)
    second = (
        await shop.client.get(f"/v1/stock/{sku}/movements?limit=3&cursor={first['next_cursor']}", headers=staff)
    ).json()
    items = first["items"] + second["items"]
    assert [(m["version"], m["kind"], m["quantity"], m["on_hand"]) for m in items] == [
        (4, "adjust", 1, 10),
        (3, "count", 2, 9),
        (2, "adjust", -3, 7),
        (1, "receive", 10, 10),
    ]
    assert second["next_cursor"] is None
    assert items[0]["actor"].startswith("staff:")


@pytest.mark.parametrize(("kind", "quantity"), [("adjust", -6), ("return", 1)])
async def test_a_movement_that_would_break_a_law_is_refused(shop: Shop, kind: str, quantity: int) -> None:
    sku = fresh_sku()
    await move(shop, sku, "receive", 5)
    assert (await move(shop, sku, kind, quantity)).status_code == 409
    assert (await stock(shop, sku))["on_hand"] == 5


@pytest.mark.parametrize(
    ("kind", "quantity"),
    [("receive", 0), ("receive", -1), ("count", -1), ("adjust", 0), ("ship", 1), ("receive", 10**12)],
)
async def test_a_movement_without_sense_is_422(shop: Shop, kind: str, quantity: int) -> None:
    assert (await move(shop, fresh_sku(), kind, quantity)).status_code == 422


async def test_customers_move_no_stock_and_read_no_ledger(shop: Shop) -> None:
    assert (await move(shop, "ANY", "receive", 1, role="customer")).status_code == 403
    assert (await shop.client.get("/v1/stock/ANY/movements", headers=shop.issue_headers("customer"))).status_code == 403


async def test_the_same_key_moves_once(shop: Shop) -> None:
    sku, key, staff = fresh_sku(), str(new_id()), shop.issue_headers("staff", new_id())
    body = {
        "movements": [
            {"sku": sku, "kind": "receive", "quantity": 5, "reason": "import"},
            {"sku": f"{sku}-B", "kind": "receive", "quantity": 1},
        ]
    }
    answers = await asyncio.gather(
        *(
            shop.client.post("/v1/stock/movements", json=body, headers=staff | {"Idempotency-Key": key})
            for _ in range(10)
        )
    )
    assert {answer.status_code for answer in answers} == {201}
    assert {answer.content for answer in answers} == {b'{"movements":2,"skus":2}'}
    assert (await stock(shop, sku))["on_hand"] == 5


async def test_a_movement_with_a_reference_happens_once_whatever_it_is_sent_with(shop: Shop) -> None:
    sku, staff = fresh_sku(), shop.issue_headers("staff")

    def line(reference: str, quantity: int = 2) -> dict[str, Any]:
        return {"sku": sku, "kind": "receive", "quantity": quantity, "reference": f"{sku}-{reference}"}

    async def send(*lines: dict[str, Any]) -> dict[str, Any]:
        answer = await shop.client.post("/v1/stock/movements", json={"movements": lines}, headers=staff)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    answers = await asyncio.gather(*(send(line("a"), line("b", 3)) for _ in range(5)))
    assert sorted(len(answer.get("repeated", ())) for answer in answers) == [0, 2, 2, 2, 2]
    assert await send(line("b", 3), line("c", 7)) == {"movements": 1, "skus": 1, "repeated": [f"{sku}-b"]}
    assert (await stock(shop, sku))["on_hand"] == 12
    refused = {"movements": [line("d"), {"sku": sku, "kind": "adjust", "quantity": -100}]}
    assert (await shop.client.post("/v1/stock/movements", json=refused, headers=staff)).status_code == 409
    assert await send(line("d")) == {"movements": 1, "skus": 1}, "a reference goes with its movement"
    twice = {"movements": [line("e"), line("e")]}
    assert (await shop.client.post("/v1/stock/movements", json=twice, headers=staff)).status_code == 422


async def test_parallel_movements_lose_nothing(shop: Shop) -> None:
    sku = fresh_sku()
    answers = await asyncio.gather(
        *(move(shop, sku, "receive", 2) for _ in range(20)), *(move(shop, sku, "adjust", 1) for _ in range(20))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert (await stock(shop, sku))["on_hand"] == 60


async def test_a_bulk_of_movements_is_done_whole_or_not_at_all(shop: Shop) -> None:
    sku = fresh_sku()
    body = {
        "movements": [
            {"sku": sku, "kind": "receive", "quantity": 5},
            {"sku": f"{sku}-B", "kind": "adjust", "quantity": -1},
        ]
    }
    assert (
        await shop.client.post("/v1/stock/movements", json=body, headers=shop.issue_headers("staff"))
    ).status_code == 409
    assert (await shop.client.get(f"/v1/stock/{sku}")).status_code == 404


async def test_a_movement_is_announced_and_audited(shop: Shop) -> None:
    sku = fresh_sku()
    await move(shop, sku, "receive", 7)

    async def announced() -> list[dict[str, Any]]:
        return await shop.read_topic("stock-changed", sku)

    assert (await wait_until(announced))[0]["data"] == {
        "sku": sku,
        "on_hand": 7,
        "reserved": 0,
        "available": 7,
        "stock_version": 1,
    }
    audited = await shop.read_topic("audit", f"stock:{sku}")
    assert audited[0]["data"]["action"] == "stock.adjusted"
    assert audited[0]["data"]["actor"].startswith("staff:")


async def test_a_movement_voids_what_the_cache_has_of_the_stock(shop: Shop) -> None:
    sku, other = fresh_sku(), fresh_sku()
    cache = shop.get_context("inventory").cache

    async def read(shown_sku: str) -> str:
        async def fill() -> Fill:
            return Fill(b"1", frozenset({STOCK(shown_sku)}))

        return (await cache.read(PAGES, shown_sku, fill)).result

    assert [await read(sku), await read(other)] == ["miss", "miss"]
    assert [await read(sku), await read(other)] == ["hit", "hit"]
    await move(shop, sku, "receive", 7)

    async def is_void() -> bool:
        return await read(sku) == "miss"

    await wait_until(is_void, seconds=5)
    assert await read(other) == "hit"


async def test_the_ledger_refuses_changes_and_the_tables_refuse_broken_laws(shop: Shop) -> None:
    sku = fresh_sku()
    await move(shop, sku, "receive", 7)
    database = shop.get_database("inventory")
    for statement in ("UPDATE movement SET quantity = 1 WHERE sku = $1", "DELETE FROM movement WHERE sku = $1"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await database.fetch(statement, sku)
    for broken in ("on_hand = 6", "reserved = 8", "reserved = -1", "shipped = 1"):
        with pytest.raises(asyncpg.CheckViolationError):
            await database.fetch(f"UPDATE stock SET {broken} WHERE sku = $1", sku)
    assert await stock_table.find_violations(database) == []


async def test_a_planted_difference_between_stock_and_ledger_is_found(shop: Shop) -> None:
    sku = fresh_sku()
    await move(shop, sku, "receive", 7)
    database = shop.get_database("inventory")
    await database.fetch("UPDATE stock SET on_hand = 8, received = 8 WHERE sku = $1", sku)
    assert [row["sku"] for row in await stock_table.find_violations(database)] == [sku]
    await database.fetch("UPDATE stock SET on_hand = 7, received = 7 WHERE sku = $1", sku)


async def test_a_live_stream_shows_the_stock_now_and_after_a_change(shop: Shop) -> None:
    sku = fresh_sku()
    await move(shop, sku, "receive", 7)
    stream = asyncio.create_task(shop.client.get(f"/v1/stock/{sku}/events"))
    watched = shop.get_context("inventory").resources.live._topics

    async def listening() -> bool:
        return sku in watched

    await wait_until(listening)
    await move(shop, sku, "adjust", -2)
    events = [orjson.loads(line[6:]) for line in (await stream).text.splitlines() if line.startswith("data: ")]
    assert [event["available"] for event in events] in ([7, 5], [5])
    assert sku not in watched
    resumed = await shop.client.get(f"/v1/stock/{sku}/events", headers={"Last-Event-ID": "2"})
    assert resumed.headers["x-accel-buffering"] == "no"
    assert resumed.headers["cache-control"] == "no-store"
    assert "data:" not in resumed.text


@pytest.mark.parametrize(
    "path", ["/v1/stock/A%00B", "/v1/stock/-", "/v1/stock/" + "A" * 41, "/v1/stock/ok/events?x", "/v1/stock/%C3%28"]
)
async def test_a_strange_sku_is_refused_not_an_error(shop: Shop, path: str) -> None:
    assert (await shop.client.get(path)).status_code in (404, 422)


@pytest.mark.parametrize("cursor", ["AAAA", "WyJcdTAwMDAiXQ", "Wzk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5XQ", "W3RydWVd"])
async def test_a_made_up_cursor_is_400(shop: Shop, cursor: str) -> None:
    assert (
        await shop.client.get(f"/v1/stock/X/movements?cursor={cursor}", headers=shop.issue_headers("staff"))
    ).status_code == 400
