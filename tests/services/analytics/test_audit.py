"""The audit log: complete, searchable, unchangeable, and for admins alone."""

import asyncpg
import pytest

from caravan.clock import new_id
from tests.services.analytics.conftest import make_audit_record, publish_messages
from tests.support.shop import Shop


async def test_actions_are_found_by_who_what_to_what_and_when(shop: Shop) -> None:
    target, actor = f"product:{new_id()}", f"admin:{new_id()}"
    await publish_messages(
        shop,
        [
            make_audit_record("price.changed", target, actor, before=1, after=2),
            make_audit_record("product.withdrawn", target),
        ],
        times=3,
        seed=1,
    )

    async def found(**query: str) -> list[str]:
        answer = await shop.client.get(
            "/v1/audit", params={"target": target, **query}, headers=shop.issue_headers("admin")
        )
        assert answer.status_code == 200, answer.text
        return sorted(item["action"] for item in answer.json()["items"])

    assert await found() == ["price.changed", "product.withdrawn"]
    assert await found(actor=actor) == ["price.changed"]
    assert await found(action="product.withdrawn") == ["product.withdrawn"]
    assert await found(**{"from": "2026-03-10T00:00:00Z", "to": "2026-03-11"}) == ["price.changed", "product.withdrawn"]
    assert await found(**{"from": "2026-03-11T00:00:00+02:00", "to": "2026-03-12T00:00:00Z"}) == []


async def test_pages_hold_each_action_once_while_new_ones_come(shop: Shop) -> None:
    target = f"user:{new_id()}"
    await publish_messages(shop, [make_audit_record(f"action.{number}", target) for number in range(5)])
    seen: list[str] = []
    cursor: str | None = None
    while True:
        parameters = {"target": target, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = (await shop.client.get("/v1/audit", params=parameters, headers=shop.issue_headers("admin"))).json()
        seen += [item["action"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        await publish_messages(shop, [make_audit_record("later", target)])
    assert sorted(seen) == [f"action.{number}" for number in range(5)]


async def test_an_action_is_kept_whatever_its_target_is_called(shop: Shop) -> None:
    actor = f"admin:{new_id()}"
    strange = make_audit_record("login.failed", "user:\x00", actor, given="a\x00b")
    strange.key = "user"
    await publish_messages(shop, [strange])
    items = (await shop.client.get("/v1/audit", params={"actor": actor}, headers=shop.issue_headers("admin"))).json()[
        "items"
    ]
    assert [item["target"] for item in items] == ["user:\ufffd"]
    assert items[0]["details"] == {"given": "a\x00b"}


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_record SET actor = 'nobody'", "DELETE FROM audit_record", "TRUNCATE audit_record"]
)
async def test_nothing_changes_or_removes_an_action(shop: Shop, statement: str) -> None:
    await publish_messages(shop, [make_audit_record("action", "target")])
    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        await shop.get_database("analytics").fetch(statement)


async def test_the_audit_log_is_for_admins(shop: Shop) -> None:
    for role, status in (("customer", 403), ("staff", 403), ("admin", 200)):
        assert (await shop.client.get("/v1/audit", headers=shop.issue_headers(role))).status_code == status
    assert (await shop.client.get("/v1/audit")).status_code == 401


@pytest.mark.parametrize(
    "query",
    ["from=2026-03-02&to=2026-03-01", "actor=%00", "from=0001-01-01T00:00:00%2B10:00", "limit=0", "to=1700000000"],
)
async def test_searches_that_can_not_be_are_refused(shop: Shop, query: str) -> None:
    assert (await shop.client.get(f"/v1/audit?{query}", headers=shop.issue_headers("admin"))).status_code == 422


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "WyIwMDAxLTAxLTAxIiwgIngiXQ",
        "WyIwMDAxLTAxLTAxVDAwOjAwOjAwKzEwOjAwIiwiMDE5N2MyYTAtMDAwMC03MDAwLTgwMDAtMDAwMDAwMDAwMDAwIl0",
    ],
)
async def test_a_cursor_of_another_list_is_refused(shop: Shop, cursor: str) -> None:
    assert (await shop.client.get(f"/v1/audit?cursor={cursor}", headers=shop.issue_headers("admin"))).status_code == 400
