"""The gateway's own use cases: the overview, which joins several services' answers, and the refresh of the route
table.
"""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from caravan.client import Operation
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.money import Money
from caravan.refusals import RefusalRecorder
from caravan.service import ServiceContext
from caravan.telemetry import log
from services.gateway.known_services import list_known_services
from services.gateway.limits import RateClasses, RateLimiter
from services.gateway.routing.table import RouteTable
from services.gateway.routing.trie import OWN_SERVICE
from services.gateway.routing.upstreams import Upstreams
from services.gateway.schemas import (
    LatestNotification,
    Overview,
    OverviewPart,
    Profile,
    RecentOrder,
    RecommendedProduct,
)
from services.gateway.sessions import SessionCache
from services.gateway.settings import Settings
from services.gateway.streams import LiveStreams
from services.identity.client import GET_CUSTOMER_STATUS, CustomerStatusRequest
from services.inventory.client import GET_AVAILABILITY, AvailabilityRequest
from services.notifications.client import LIST_LATEST_NOTIFICATIONS, LatestNotificationsRequest
from services.orders.client import LIST_RECENT_ORDERS, RecentOrdersRequest
from services.recommendations.client import LIST_RECOMMENDATIONS, RecommendationsRequest

ORDERS_SHOWN = 5
NOTIFICATIONS_SHOWN = 5
PRODUCTS_SHOWN = 10


@dataclass(slots=True)
class GatewayResources:
    table: RouteTable
    rate_limiter: RateLimiter
    rate_classes: RateClasses
    sessions: SessionCache
    streams: LiveStreams
    upstreams: Upstreams
    refusals: RefusalRecorder


GatewayContext = ServiceContext[Settings, GatewayResources]


def list_other_services(context: GatewayContext) -> set[str]:
    """The services that there should be, whether they run or not: as configured, or all of this release."""
    configured = {name.strip() for name in context.settings.services.split(",") if name.strip()}
    return (configured or list_known_services()) - {OWN_SERVICE}


async def refresh_routes(context: GatewayContext) -> bool:
    await context.resources.table.keep_fresh()
    return False


async def report_refusals(context: GatewayContext) -> bool:
    await context.resources.refusals.send_report()
    return False


async def read_overview(context: GatewayContext, user_id: UUID) -> Overview:
    """All sections at once, each within its operation's deadline."""
    failed: list[OverviewPart] = []
    profile, orders, notifications, recommendations = await asyncio.gather(
        _fetch_part(context, failed, "profile", GET_CUSTOMER_STATUS, CustomerStatusRequest(user_id=user_id)),
        _fetch_part(
            context, failed, "orders", LIST_RECENT_ORDERS, RecentOrdersRequest(user_id=user_id, limit=ORDERS_SHOWN)
        ),
        _fetch_part(
            context,
            failed,
            "notifications",
            LIST_LATEST_NOTIFICATIONS,
            LatestNotificationsRequest(user_id=user_id, limit=NOTIFICATIONS_SHOWN),
        ),
        _fetch_recommendations(context, failed, user_id),
    )
    return Overview(
        profile=profile and Profile(id=profile.user_id, email=profile.email, name=profile.name, role=profile.role),
        orders=orders
        and [
            RecentOrder(
                id=order.id,
                status=order.status,
                total=Money(amount=order.total, currency=order.currency),
                placed_at=order.placed_at,
            )
            for order in orders.items
        ],
        notifications=notifications and [LatestNotification(**item.model_dump()) for item in notifications.items],
        recommendations=recommendations,
        partial=bool(failed),
        failed=sorted(failed),
    )


async def _fetch_part(
    context: GatewayContext,
    failed: list[OverviewPart],
    part: OverviewPart,
    operation: Operation[Any, Any],
    request: Any,
) -> Any:
    try:
        return await context.call(operation, request)
    except (Problem, *CONNECTION_LOST) as error:
        log.warning("overview is partial", part=part, error=repr(error))
        failed.append(part)
        return None


async def _fetch_recommendations(
    context: GatewayContext, failed: list[OverviewPart], user_id: UUID
) -> list[RecommendedProduct] | None:
    """With what is in stock of each."""
    recommendations = await _fetch_part(
        context,
        failed,
        "recommendations",
        LIST_RECOMMENDATIONS,
        RecommendationsRequest(user_id=user_id, limit=PRODUCTS_SHOWN),
    )
    if recommendations is None:
        return None
    skus = [item.sku for item in recommendations.items]
    stock = (
        await _fetch_part(context, failed, "stock", GET_AVAILABILITY, AvailabilityRequest(skus=skus)) if skus else None
    )
    available = {line.sku: line.available for line in stock.stock} if stock else {}
    return [
        RecommendedProduct(**item.model_dump(), available=available.get(item.sku, 0) if stock else None)
        for item in recommendations.items
    ]
