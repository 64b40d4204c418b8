"""Reading orders: lists, live events, waits for a version, and the rebuilt read side."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from caravan.clock import new_id
from services.orders import projections
from services.orders.store import projection, summaries
from tests.services.orders.neighbours import create_order, make_order_body, place_order, report_all
from tests.support.shop import Shop, wait_until


async def test_another_customer_sees_no_order_and_staff_does(shop: Shop) -> None:
    owner = new_id()
    order_id = await create_order(shop, owner)
    for path in ("", "/history", "/events"):
        assert (
            await shop.client.get(f"/v1/orders/{order_id}{path}", headers=shop.issue_headers("customer"))
        ).status_code == 404
    assert (
        await shop.client.post(f"/v1/orders/{order_id}/cancel", headers=shop.issue_headers("customer"))
    ).status_code == 404
    assert (await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("staff"))).status_code == 200


async def test_what_is_somebodys_own_or_refused_is_not_kept_by_caches(shop: Shop) -> None:
    user = new_id()
    order_id = await create_order(shop, user)
    mine = await shop.client.get(f"/v1/orders/{order_id}", headers=shop.issue_headers("customer", user))
    refused = await shop.client.get(f"/v1/orders/{order_id}")
    assert (mine.status_code, refused.status_code) == (200, 401)
    for answer in (mine, refused, await place_order(shop, user, make_order_body(("MUG", 1)))):
        assert answer.headers.get_list("cache-control") == ["no-store"]
        assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


async def test_who_waits_for_a_version_that_does_not_come_asks_seldom(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    order_id, who = await create_order(shop, user), shop.issue_headers("customer", user)
    assert (await shop.client.get(f"/v1/orders/{order_id}?min_version=1", headers=who)).status_code == 200
    asked: list[float] = []
    summary = summaries.find_summary

    async def counted(*arguments: Any) -> Any:
        asked.append(asyncio.get_running_loop().time())
        return await summary(*arguments)

    monkeypatch.setattr(summaries, "find_summary", counted)
    answer = await shop.client.get(f"/v1/orders/{order_id}?min_version=99", headers=who)
    assert answer.status_code == 409
    assert asked[-1] - asked[0] >= shop.get_context("orders").settings.read_seconds
    assert len(asked) <= 7, "each pause is twice the one before"


async def test_an_accepted_cancellation_is_answered_so_while_the_read_side_is_late(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = new_id()
    order_id, who = await create_order(shop, user), shop.issue_headers("customer", user)
    assert (await shop.client.get(f"/v1/orders/{order_id}?min_version=1", headers=who)).status_code == 200

    async def project_nothing(*_: Any) -> tuple[int, list[str]]:
        return 0, []

    monkeypatch.setattr(projections, "project_events", project_nothing)
    answer = await shop.client.post(f"/v1/orders/{order_id}/cancel", headers=who)
    assert (answer.status_code, answer.json()["cancelling"]) == (202, True), answer.text


async def test_live_events_resume_after_the_last_one_seen(shop: Shop) -> None:
    user = new_id()
    order_id = await create_order(shop, user)
    await report_all(shop, order_id)
    assert (
        await shop.client.get(f"/v1/orders/{order_id}?min_version=5", headers=shop.issue_headers("customer", user))
    ).status_code == 200
    ids = []
    async with shop.client.stream(
        "GET", f"/v1/orders/{order_id}/events", headers={**shop.issue_headers("customer", user), "Last-Event-ID": "2"}
    ) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("id: "):
                ids.append(int(line[4:]))
    assert ids == [3, 4, 5]
    ended = await shop.client.get(
        f"/v1/orders/{order_id}/events", headers={**shop.issue_headers("customer", user), "Last-Event-ID": "5"}
    )
    assert (ended.status_code, ended.content) == (204, b""), "a browser connects no more"


async def test_lists_page_through_all_orders_of_the_customer(shop: Shop) -> None:
    user = new_id()
    expected = [await create_order(shop, user) for _ in range(5)]
    await shop.client.get(f"/v1/orders/{expected[-1]}", headers=shop.issue_headers("customer", user))
    found, cursor = [], ""
    while True:
        page = (
            await shop.client.get(f"/v1/orders?limit=2{cursor}", headers=shop.issue_headers("customer", user))
        ).json()
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == expected[::-1]


async def test_a_full_list_has_what_each_order_shows(shop: Shop) -> None:
    user = new_id()
    who = shop.issue_headers("customer", user)
    expected = [await create_order(shop, user) for _ in range(3)]
    somebody_elses = await create_order(shop, new_id())
    cancelled = await shop.client.post(f"/v1/orders/{expected[0]}/cancel", headers=who)
    assert cancelled.status_code == 202, cancelled.text
    versions = dict.fromkeys(expected, 1) | {expected[0]: 2}
    shown = {
        key: (await shop.client.get(f"/v1/orders/{key}?min_version={version}", headers=who)).json()
        for key, version in versions.items()
    }
    found, cursor = [], ""
    while True:
        page = (await shop.client.get(f"/v1/orders?view=full&limit=2{cursor}", headers=who)).json()
        found += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert found == [shown[key] for key in reversed(expected)]
    assert all(item["lines"] for item in found)
    for status in {item["status"] for item in found}:
        page = (await shop.client.get(f"/v1/orders?view=full&status={status}", headers=who)).json()
        assert page["items"] == [item for item in found if item["status"] == status]
    staff = (await shop.client.get("/v1/orders?view=full&limit=100", headers=shop.issue_headers("staff"))).json()
    assert somebody_elses in {item["id"] for item in staff["items"]}


async def test_events_can_be_neither_changed_nor_deleted(shop: Shop) -> None:
    order_id = await create_order(shop, new_id())
    for statement in ("UPDATE event SET actor = 'nobody' WHERE stream = $1", "DELETE FROM event WHERE stream = $1"):
        with pytest.raises(asyncpg.RestrictViolationError):
            await shop.get_database("orders").fetch(statement, UUID(order_id))


async def test_a_rebuilt_read_side_equals_the_live_one_to_the_byte(shop: Shop) -> None:
    write, read = shop.get_database("orders"), shop.get_context("orders").databases["orders_read"]

    async def caught_up() -> bool:
        return (await projections.project_events(write, read))[0] == 0

    await wait_until(caught_up)
    progress: list[int] = []
    for table in ("rebuilt_one", "rebuilt_two"):
        await projections.rebuild_table(write, read, table, progress.append)
    one, two, live = [
        await projection.compute_digest(read, table) for table in ("rebuilt_one", "rebuilt_two", "order_summary")
    ]
    assert one == two == live
    assert one[0] > 0
    assert progress
    rebuilt = await projections.rebuild_summaries(shop.get_context("orders").databases, progress.append)
    assert rebuilt.is_identical
    assert rebuilt.rows == live[0]
    assert await projection.compute_digest(read, "order_summary") == live


async def test_staff_list_the_orders_of_a_customer_and_those_of_a_trace(shop: Shop) -> None:
    user, other, trace_id = new_id(), new_id(), uuid4().hex
    order_id, _ = await create_order(shop, user), await create_order(shop, other)
    database = shop.get_database("orders")
    await database.execute("ALTER TABLE event DISABLE TRIGGER USER")
    await database.execute("UPDATE event SET trace_id = $2 WHERE stream = $1", order_id, trace_id)
    await database.execute("ALTER TABLE event ENABLE TRIGGER USER")
    staff = shop.issue_headers("staff")

    async def list_ids(query: str, headers: dict[str, str] = staff) -> list[str]:
        answer = await shop.client.get(f"/v1/orders?{query}", headers=headers)
        assert answer.status_code == 200, answer.text
        return [item["id"] for item in answer.json()["items"]]

    async def is_listed() -> bool:
        return await list_ids(f"user_id={user}") == [str(order_id)]

    await wait_until(is_listed)
    assert await list_ids(f"trace_id={trace_id}") == [str(order_id)]
    assert await list_ids(f"trace_id={trace_id}&user_id={other}") == []
    assert await list_ids(f"trace_id={uuid4().hex}") == []
    assert await list_ids(f"user_id={user}", shop.issue_headers("customer", new_id())) == []
