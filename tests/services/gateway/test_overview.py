"""One answer from several services, also when one of them is away."""

import asyncio
from typing import Any

from caravan.clock import new_id
from caravan.errors import ServiceUnavailable
from caravan.runtime import Backends
from caravan.service import Service
from services.inventory.client import GET_AVAILABILITY, Availabilities, Availability
from services.notifications.client import LIST_LATEST_NOTIFICATIONS, LatestNotifications, NotificationSummary
from services.orders.client import LIST_RECENT_ORDERS, OrderSummary, RecentOrders
from services.recommendations.client import LIST_RECOMMENDATIONS, Recommendation, Recommendations
from tests.support.shop import run_services

ORDER = OrderSummary(id=new_id(), status="paid", total=1999, currency="GBP", placed_at="2026-01-01T00:00:00Z")
MAIL = NotificationSummary(
    id=new_id(), kind="welcome", channel="email", state="sent", subject="Welcome", created_at="2026-01-01T00:00:00Z"
)
MUG = Recommendation(sku="MUG", name="Mug", rule="popular")
CUP = Recommendation(sku="CUP", name="Cup", rule="popular")


async def recent(_: Any, __: Any) -> RecentOrders:
    return RecentOrders(items=[ORDER])


async def latest(_: Any, __: Any) -> LatestNotifications:
    return LatestNotifications(items=[MAIL])


async def for_user(_: Any, __: Any) -> Recommendations:
    return Recommendations(items=[MUG, CUP])


async def availability(_: Any, __: Any) -> Availabilities:
    return Availabilities(stock=[Availability(sku="MUG", on_hand=5, reserved=2, available=3)])


async def fails(_: Any, __: Any) -> Any:
    raise ServiceUnavailable("away")


async def hangs(_: Any, __: Any) -> Any:
    await asyncio.Event().wait()


def services(
    orders: Any = recent, recommendations: Any = for_user, inventory: Any = availability
) -> tuple[Service, ...]:
    return (
        Service("orders", operations=(LIST_RECENT_ORDERS.bind(orders),)),
        Service("notifications", operations=(LIST_LATEST_NOTIFICATIONS.bind(latest),)),
        Service("recommendations", operations=(LIST_RECOMMENDATIONS.bind(recommendations),)),
        Service("inventory", operations=(GET_AVAILABILITY.bind(inventory),)),
    )


async def test_the_overview_joins_its_parts(backends: Backends) -> None:
    async with run_services(backends, "gateway", extra_services=services()) as shop:
        user = new_id()
        answer = await shop.client.get("/v1/me/overview", headers=shop.issue_headers(user_id=user))
        seen = answer.json()
        assert seen["partial"] is False
        assert seen["failed"] == []
        assert seen["profile"]["id"] == str(user)
        assert seen["orders"] == [
            {
                "id": str(ORDER.id),
                "status": "paid",
                "total": {"amount": 1999, "currency": "GBP"},
                "placed_at": ORDER.placed_at,
            }
        ]
        assert seen["notifications"] == [MAIL.model_dump(mode="json")]
        assert [(item["sku"], item["available"]) for item in seen["recommendations"]] == [("MUG", 3), ("CUP", 0)]
        assert (await shop.client.get("/v1/me/overview")).status_code == 401


async def test_a_part_that_fails_or_hangs_is_left_out_and_named(backends: Backends) -> None:
    async with run_services(backends, "gateway", extra_services=services(orders=fails, inventory=hangs)) as shop:
        seen = (await shop.client.get("/v1/me/overview", headers=shop.issue_headers())).json()
        assert seen["partial"] is True
        assert seen["failed"] == ["orders", "stock"]
        assert seen["orders"] is None
        assert [item["available"] for item in seen["recommendations"]] == [None, None]


async def test_parts_that_no_process_serves_are_left_out_and_named(backends: Backends) -> None:
    async with run_services(backends, "gateway") as shop:
        answer = await shop.client.get("/v1/me/overview", headers=shop.issue_headers())
        assert answer.status_code == 200
        assert answer.json()["failed"] == ["notifications", "orders", "recommendations"]
        assert answer.json()["profile"] is not None
