"""What becomes of a case: repaired by one command, approved by another admin, dismissed, or closed by itself."""

from typing import Any
from uuid import UUID

import pytest

from caravan.clock import new_id
from services.reconciliation.model.classes import CLASSES
from services.reconciliation.store import cases
from services.reconciliation.use_cases import ReconciliationContext
from tests.services.reconciliation.conftest import compare
from tests.services.reconciliation.planting import AGE, Order, Planter, cancelled, declined
from tests.support.shop import Shop, wait_until

FOUR_EYES = 10_000


async def find_case(context: ReconciliationContext, order_id: UUID) -> UUID:
    (case,) = [case for case in await cases.list_unsettled(context.database) if case.order_id == order_id]
    return case.id


async def act(shop: Shop, case_id: UUID, action: str, headers: dict[str, str], **body: Any) -> Any:
    return await shop.client.post(f"/v1/reconciliation/cases/{case_id}/{action}", json=body, headers=headers)


async def get_state(shop: Shop, case_id: UUID) -> str:
    document = await shop.client.get(f"/v1/reconciliation/cases/{case_id}", headers=shop.issue_headers("admin"))
    return str(document.json()["state"])


async def count_commands(shop: Shop, order_id: UUID) -> int:
    """Messages that this order was sent for, waiting or on their way."""
    waiting = await shop.get_database("reconciliation").fetchval(
        "SELECT count(*) FROM outbox WHERE key = $1", str(order_id)
    )
    return int(waiting) + len(await shop.read_queue("payments.refund", order_id))


async def is_gone(context: ReconciliationContext, shop: Shop, case_id: UUID, state: str) -> bool:
    await compare(context)
    return await get_state(shop, case_id) == state


async def test_money_without_an_order_is_given_back_once_and_the_case_resolved(
    shop: Shop, context: ReconciliationContext, planter: Planter
) -> None:
    admin = shop.issue_headers("admin")
    order_id = await planter.plant_order(Order(events=(), reservation="", shipment=""))
    await compare(context)
    case_id = await find_case(context, order_id)
    dry = await act(shop, case_id, "repair", admin)
    assert (dry.status_code, dry.json()["outcome"]) == (200, "would be repairing")
    assert (await get_state(shop, case_id), await count_commands(shop, order_id)) == ("open", 0)
    repaired = await act(shop, case_id, "repair", admin, dry_run=False, reason="never ordered")
    assert (repaired.status_code, repaired.json()["outcome"]) == (200, "repairing"), repaired.text
    again = await act(shop, case_id, "repair", admin, dry_run=False)
    assert again.status_code == 409
    payments = shop.get_database("payments")
    refunded = "SELECT state = 'done' FROM refund WHERE order_id = $1"
    await wait_until(lambda: payments.fetchval(refunded, order_id))
    assert await payments.fetchval("SELECT count(*) FROM provider_ledger WHERE reference = $1", str(order_id)) == 2
    await wait_until(lambda: is_gone(context, shop, case_id, "resolved"))
    document = (await shop.client.get(f"/v1/reconciliation/cases/{case_id}", headers=admin)).json()
    assert [step["state"] for step in document["history"]] == ["open", "repairing", "resolved"]
    assert document["history"][1]["reason"] == "never ordered"


async def test_a_leaked_reservation_is_released(shop: Shop, context: ReconciliationContext, planter: Planter) -> None:
    planter.sku = await planter.plant_stock(10, 2)
    order_id = await planter.plant_order(declined(reservation="held"))
    await compare(context)
    case_id = await find_case(context, order_id)
    repaired = await act(shop, case_id, "repair", shop.issue_headers("admin"), dry_run=False)
    assert repaired.status_code == 200, repaired.text
    inventory = shop.get_database("inventory")
    released = "SELECT state = 'released' FROM reservation WHERE order_id = $1"
    await wait_until(lambda: inventory.fetchval(released, order_id))
    assert await inventory.fetchval("SELECT reserved FROM stock WHERE sku = $1", planter.sku) == 0


async def test_much_money_needs_another_admin(shop: Shop, context: ReconciliationContext, planter: Planter) -> None:
    one, other = shop.issue_headers("admin", new_id()), shop.issue_headers("admin", new_id())
    order_id = await planter.plant_order(
        cancelled(
            total=FOUR_EYES + 1,
            refunded=0,
            payment="completed",
        )
    )
    await compare(context)
    case_id = await find_case(context, order_id)
    early = await act(shop, case_id, "approve", other)
    assert early.status_code == 409
    asked = await act(shop, case_id, "repair", one, dry_run=False)
    assert (asked.json()["outcome"], await count_commands(shop, order_id)) == ("awaiting_approval", 0)
    alone = await act(shop, case_id, "approve", one)
    assert (alone.status_code, alone.json()["type"].rpartition("/")[2]) == (403, "second-person-needed")
    assert await count_commands(shop, order_id) == 0
    approved = await act(shop, case_id, "approve", other)
    assert (approved.status_code, approved.json()["outcome"]) == (200, "repairing")
    payments = shop.get_database("payments")
    await wait_until(lambda: payments.fetchval("SELECT true FROM refund WHERE order_id = $1", order_id))
    actions = [item["data"]["action"] for item in await shop.read_topic("audit", f"case:{case_id}")]
    assert actions == ["reconciliation.repair", "reconciliation.approve"]


async def test_what_no_command_corrects_is_dismissed_and_stays_so(
    shop: Shop, context: ReconciliationContext, planter: Planter
) -> None:
    admin = shop.issue_headers("admin")
    order_id = await planter.plant_order(Order(ledger=()))
    await compare(context)
    case_id = await find_case(context, order_id)
    refused = await act(shop, case_id, "repair", admin)
    assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (409, "not-repairable")
    assert (await act(shop, case_id, "dismiss", admin)).status_code == 422, "without a reason"
    dismissed = await act(shop, case_id, "dismiss", admin, reason="paid by bank transfer")
    assert (dismissed.status_code, dismissed.json()["state"]) == (200, "dismissed")
    await compare(context, "full")
    assert [case for case in await cases.list_unsettled(context.database) if case.order_id == order_id] == []
    actions = [item["data"]["action"] for item in await shop.read_topic("audit", f"case:{case_id}")]
    assert actions == ["reconciliation.dismiss"]


async def test_a_gap_that_is_gone_closes_its_case_and_is_repaired_no_more(
    shop: Shop, context: ReconciliationContext, planter: Planter
) -> None:
    order = cancelled(refunded=0, payment="completed", ledger=(("{id}:1", "capture", 2500, "GBP"),))
    order_id = await planter.plant_order(order)
    await compare(context)
    case_id = await find_case(context, order_id)
    payments = planter.connections["payments"]
    await payments.execute(
        "INSERT INTO refund (order_id, state, amount, reason, requested_at, refunded_at)"
        " VALUES ($1, 'done', 2500, '', now() - interval '5 seconds', now() - interval '5 seconds')",
        order_id,
    )
    await planter.plant_ledger([(f"{order_id}:refund", "refund", 2500, "GBP")], str(order_id), context.clock() - AGE)
    late = await act(shop, case_id, "repair", shop.issue_headers("admin"), dry_run=False)
    assert (late.status_code, late.json()["type"].rpartition("/")[2]) == (409, "gap-gone")
    await compare(context)
    assert (await get_state(shop, case_id), await count_commands(shop, order_id)) == ("closed", 0)


async def test_one_run_of_repairs_stays_within_its_bounds(
    shop: Shop, context: ReconciliationContext, planter: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in await cases.list_unsettled(context.database):
        if case.state == "open":  # of other tests
            await act(shop, case.id, "dismiss", shop.issue_headers("admin"), reason="not of this test")
    bounds = {"repairs_per_run": 2, "repair_amount_per_run": 6000}
    monkeypatch.setattr(context, "settings", context.settings.model_copy(update=bounds))
    total = {"refunded": 0, "payment": "completed"}
    for amount in (2500, 5000, 2500, 2500):
        await planter.plant_order(cancelled(total=amount, **total))
    await compare(context)
    admin = shop.issue_headers("admin")

    async def repair(dry_run: bool) -> list[tuple[int, str]]:
        body = {"dry_run": dry_run}
        response = await shop.client.post("/v1/reconciliation/repairs", json=body, headers=admin)
        return [
            (plan["amount"]["amount"], plan["outcome"])
            for plan in response.json()["items"]
            if plan["gap"] == "capture_not_returned"
        ]

    expected = ["would be repairing", "over the bounds of one run", "would be repairing", "over the bounds of one run"]
    assert [outcome for _, outcome in await repair(True)] == expected
    assert [outcome for _, outcome in await repair(True)] == expected, "a dry run changes nothing"
    assert [outcome for _, outcome in await repair(False)] == [text.removeprefix("would be ") for text in expected]
    assert len(await repair(True)) == 2, "what is under repair is not repaired again"


async def test_cases_are_listed_by_pages_and_filters(
    shop: Shop, context: ReconciliationContext, planter: Planter
) -> None:
    admin = shop.issue_headers("admin")
    planted = {str(await planter.plant_order(Order(shipped_units=9))) for _ in range(3)}
    await compare(context)
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        params: dict[str, str | int] = {
            "gap": "wrong_units",
            "state": "open",
            "limit": 2,
            **({"cursor": cursor} if cursor else {}),
        }
        page = (await shop.client.get("/v1/reconciliation/cases", params=params, headers=admin)).json()
        found, cursor = found + [item["subject"] for item in page["items"]], page["next_cursor"]
    assert planted <= set(found)
    assert len(found) == len(set(found))
    unknown = await shop.client.get("/v1/reconciliation/cases", params={"gap": "nothing"}, headers=admin)
    assert unknown.status_code == 422
    overview = (await shop.client.get("/v1/reconciliation", headers=admin)).json()
    gaps = {row["invariant"]: row["gaps"] for row in overview["invariants"]}
    assert gaps.keys() == {each.invariant for each in CLASSES.values()}
    assert gaps["I4"] >= 3
    metrics = (await shop.client.get("/metrics")).text
    await wait_until(lambda: has_gauge(shop, gaps["I4"]))
    assert 'caravan_invariant_gap{invariant="I2"}' in metrics, "also those without a gap"


async def has_gauge(shop: Shop, count: int) -> bool:
    return f'caravan_invariant_gap{{invariant="I4"}} {float(count)}' in (await shop.client.get("/metrics")).text


async def test_a_run_is_asked_for_and_followed(shop: Shop, context: ReconciliationContext) -> None:
    admin = shop.issue_headers("admin")
    asked = await shop.client.post("/v1/reconciliation/runs", json={"mode": "full"}, headers=admin)
    assert asked.status_code == 202

    async def is_done() -> bool:
        run = (await shop.client.get(asked.headers["location"], headers=admin)).json()
        return bool(run["state"] == "done")

    await wait_until(is_done)
    listed = (await shop.client.get("/v1/reconciliation/runs", headers=admin)).json()["items"]
    assert asked.json()["id"] in [run["id"] for run in listed]


async def test_money_in_is_money_explained_by_day_and_currency(
    shop: Shop, context: ReconciliationContext, planter: Planter
) -> None:
    admin = shop.issue_headers("admin")
    for order in (
        Order(paid_currency="SEK", currency="SEK"),
        Order(paid_currency="SEK", currency="SEK", shipped_units=3),
    ):
        await planter.plant_order(order)
    in_question = Order(currency="SEK", paid_currency="SEK", events=(), reservation="", shipment="")
    await planter.plant_order(in_question)
    await compare(context)
    report = (await shop.client.get("/v1/reconciliation/money", headers=admin)).json()
    (row,) = [row for row in report["rows"] if row["currency"] == "SEK"]
    assert (row["captured"], row["captured_explained"], row["unexplained"]) == (7500, 5000, 2500)
    assert row["net"] == row["captured"] - row["refunded"]
    text = (await shop.client.get("/v1/reconciliation/money", params={"format": "csv"}, headers=admin)).text
    assert text.splitlines()[0].startswith("day,currency,captured,refunded")
    assert any(",SEK,7500,0,5000,0," in line for line in text.splitlines())
