"""Reports are kept, and never older than what was handled before the question."""

from datetime import timedelta
from typing import Any

import httpx2
import pytest

from caravan.clock import new_id
from services.analytics.caches import list_tags_of_change, list_tags_of_days
from tests.services.analytics.conftest import NOON, make_order_messages, make_refund_messages, publish_messages
from tests.services.analytics.reports import DAY, YESTERDAY
from tests.support.shop import Shop

BEFORE = {"from": "2026-03-09", "to": "2026-03-09"}
KEPT = ["sales", "products", "refunds", "customers", "cohorts"]


async def ask(shop: Shop, report: str, **parameters: Any) -> httpx2.Response:
    headers = {**shop.issue_headers("staff"), **parameters.pop("headers", {})}
    answer = await shop.client.get(f"/v1/reports/{report}", params=parameters, headers=headers)
    assert answer.status_code in (200, 304), answer.text
    return answer


def is_hit(answer: httpx2.Response) -> bool:
    return answer.headers["cache-status"].startswith("Caravan; hit")


@pytest.mark.parametrize("report", KEPT)
async def test_the_second_answer_comes_from_the_cache_and_is_the_same(shop: Shop, report: str) -> None:
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 2), ends="refunded"))
    first = await ask(shop, report, **DAY)
    again = await ask(shop, report, **DAY)
    assert (is_hit(first), is_hit(again)) == (False, True)
    assert again.content == first.content
    known = await ask(shop, report, **DAY, headers={"If-None-Match": first.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    rows = await ask(shop, report, **DAY, format="csv")
    assert len(rows.text.splitlines()) == len(first.json()["rows"]) + 1
    assert is_hit(rows)
    known_rows = await ask(shop, report, **DAY, format="csv", headers={"If-None-Match": rows.headers["etag"]})
    assert known_rows.status_code == 304
    other_form = await ask(shop, report, **DAY, headers={"If-None-Match": rows.headers["etag"]})
    assert other_form.status_code == 200


@pytest.mark.parametrize("report", KEPT)
async def test_an_order_is_in_the_next_answer(shop: Shop, report: str) -> None:
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 2), ends="refunded"))
    before = (await ask(shop, report, **DAY)).json()
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 1), ends="refunded"))
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 1), ends="paid"))
    after = await ask(shop, report, **DAY)
    assert not is_hit(after)
    assert after.json() != before


@pytest.mark.parametrize("report", ["sales", "products"])
async def test_an_order_of_another_day_voids_nothing(shop: Shop, report: str) -> None:
    await publish_messages(shop, make_order_messages(YESTERDAY, ("MUG", 2), ends="paid"))
    await ask(shop, report, **BEFORE)
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 1), ends="paid"))
    assert is_hit(await ask(shop, report, **BEFORE))


async def test_money_given_back_later_voids_the_day_on_which_the_order_was_placed(shop: Shop) -> None:
    published = make_order_messages(YESTERDAY, ("MUG", 2), ends="paid")
    await publish_messages(shop, published)
    before = (await ask(shop, "sales", **BEFORE)).json()
    created: Any = published[0].message
    await publish_messages(shop, make_refund_messages(created.order_id, created.user_id, created.total))
    after = await ask(shop, "sales", **BEFORE)
    assert not is_hit(after)
    assert (before["totals"][0]["refunded"], after.json()["totals"][0]["refunded"]) == (0, 2500)


async def test_a_payment_that_comes_before_its_order_counts_once_the_order_is_there(shop: Shop) -> None:
    created, *later = make_order_messages(YESTERDAY, ("MUG", 2), ends="paid")
    await publish_messages(shop, later)
    assert (await ask(shop, "sales", **BEFORE)).json()["totals"] == []
    await publish_messages(shop, [created])
    assert (await ask(shop, "sales", **BEFORE)).json()["totals"][0]["captured"] == 2500


async def test_customers_of_a_day_depend_on_who_bought_before_it(shop: Shop) -> None:
    ada = new_id()
    await publish_messages(shop, make_order_messages(NOON, ("MUG", 1), ends="paid", user_id=ada))
    assert (await ask(shop, "customers", **DAY)).json()["new"] == 1
    await publish_messages(shop, make_order_messages(YESTERDAY, ("MUG", 1), ends="paid", user_id=ada))
    assert (await ask(shop, "customers", **DAY)).json()["new"] == 0


def test_a_change_of_a_day_voids_each_period_that_it_is_in() -> None:
    first, last = (YESTERDAY - timedelta(days=300)).date(), NOON.date()
    tags = list_tags_of_days(first, last)
    assert len(tags) == 302
    for day in (first, YESTERDAY.date(), last):
        assert tags & list_tags_of_change([day])
    assert not tags & list_tags_of_change([last + timedelta(days=1), first - timedelta(days=1)])


async def test_the_funnel_is_computed_each_time(shop: Shop) -> None:
    assert "cache-status" not in (await ask(shop, "funnel", **DAY)).headers
