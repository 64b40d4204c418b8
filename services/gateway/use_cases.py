"""What the gateway does itself: one answer from several services, and keeping the route table fresh."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from caravan.client import Operation
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.money import Money
from caravan.refusals import RefusedRequests
from caravan.service import Context
from caravan.telemetry import log
from services.gateway.limits import Limits, Policies
from services.gateway.schemas import LatestNotification, Overview, Part, Profile, RecentOrder, RecommendedProduct
from services.gateway.sessions import Sessions
from services.gateway.settings import Settings
from services.gateway.streams import Streams
from services.gateway.table import Table
from services.gateway.upstreams import Upstreams
from services.identity.client import STANDING, StandingRequest
from services.inventory.client import AVAILABILITY, AvailabilityRequest
from services.notifications.client import LATEST, LatestRequest
from services.orders.client import RECENT, RecentRequest
from services.recommendations.client import FOR_USER, RecommendationsRequest

ORDERS_SHOWN = 5
NOTIFICATIONS_SHOWN = 5
PRODUCTS_SHOWN = 10


@dataclass(slots=True)
class Parts:
    table: Table
    limits: Limits
    policies: Policies
    sessions: Sessions
    streams: Streams
    upstreams: Upstreams
    refused: RefusedRequests


GatewayContext = Context[Settings, Parts]


async def refresh_routes(context: GatewayContext) -> bool:
    await context.parts.table.keep_fresh()
    return False


async def report_refusals(context: GatewayContext) -> bool:
    await context.parts.refused.report()
    return False


async def read_overview(context: GatewayContext, user_id: UUID) -> Overview:
    """All parts at once, each within its operation's deadline."""
    failed: list[Part] = []
    profile, orders, notifications, recommendations = await asyncio.gather(
        _part(context, failed, "profile", STANDING, StandingRequest(user_id=user_id)),
        _part(context, failed, "orders", RECENT, RecentRequest(user_id=user_id, limit=ORDERS_SHOWN)),
        _part(context, failed, "notifications", LATEST, LatestRequest(user_id=user_id, limit=NOTIFICATIONS_SHOWN)),
        _recommendations(context, failed, user_id),
    )
    return Overview(
        profile=profile and Profile(id=profile.user_id, email=profile.email, name=profile.name, role=profile.role),
        orders=orders
        and [
            RecentOrder(
                id=order.id, status=order.status, total=Money(amount=order.total, currency=order.currency), placed_at=order.placed_at
            )
            for order in orders.items
        ],
        notifications=notifications and [LatestNotification(**item.model_dump()) for item in notifications.items],
        recommendations=recommendations,
        partial=bool(failed),
        failed=sorted(failed),
    )


async def _part(context: GatewayContext, failed: list[Part], part: Part, operation: Operation[Any, Any], request: Any) -> Any:
    try:
        return await context.calls(operation, request)
    except (Problem, *CONNECTION_LOST) as error:
        log.warning("overview is partial", part=part, error=repr(error))
        failed.append(part)
        return None


async def _recommendations(context: GatewayContext, failed: list[Part], user_id: UUID) -> list[RecommendedProduct] | None:
    """With what is in stock of each."""
    found = await _part(context, failed, "recommendations", FOR_USER, RecommendationsRequest(user_id=user_id, limit=PRODUCTS_SHOWN))
    if found is None:
        return None
    skus = [item.sku for item in found.items]
    stock = await _part(context, failed, "stock", AVAILABILITY, AvailabilityRequest(skus=skus)) if skus else None
    available = {line.sku: line.available for line in stock.stock} if stock else {}
    return [RecommendedProduct(**item.model_dump(), available=available.get(item.sku, 0) if stock else None) for item in found.items]
