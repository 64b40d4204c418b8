"""Asks every service for its part of an order's timeline, all at once, each within its operation's deadline. What is
missing is named, with the reason.
"""

import asyncio
from datetime import datetime
from uuid import UUID

from caravan.auth import Caller
from caravan.clock import get_creation_time
from caravan.database import CONNECTION_LOST
from caravan.errors import DeadlineExceeded, NotFound, Problem, ServiceUnavailable
from caravan.telemetry import log
from caravan.timeline import TimelinePart, TimelineRequest, build_timeline_operation
from services.gateway.schemas import MissingSource
from services.gateway.timeline.ordering import Node, order_parts
from services.gateway.use_cases import GatewayContext, list_other_services
from services.orders.client import GET_ORDER_OWNER, OrderOwnerRequest

SOURCES: dict[str, tuple[str, ...]] = {
    "orders": ("events",),
    "processing": ("saga",),
    "inventory": ("reservations", "stock"),
    "payments": ("payments", "provider", "jobs", "documents"),
    "shipping": ("shipments", "carrier"),
    "notifications": ("mails",),
    "analytics": ("audit",),
}
"""What each service tells beside its messages."""
MESSAGE_SOURCES = ("topics", "queues", "dead_letters")


async def require_visible_order(context: GatewayContext, caller: Caller, order_id: UUID) -> None:
    """Raises NotFound for an order that is not there or is not the caller's. Staff may look at what is left while
    orders can't be asked.
    """
    try:
        owner = await context.call(GET_ORDER_OWNER, OrderOwnerRequest(order_id=order_id))
    except (ServiceUnavailable, DeadlineExceeded):
        if caller.has_role("staff"):
            return
        raise
    if not caller.can_see(owner.user_id):
        raise NotFound(f"no order {order_id}")


async def collect_timeline(context: GatewayContext, order_id: UUID) -> tuple[list[Node], list[MissingSource]]:
    """What all services tell, causes first, and what is missing of it."""
    services = sorted(list_other_services(context))
    answers = await asyncio.gather(*(_fetch_part(context, service, order_id) for service in services))
    parts: list[TimelinePart] = []
    missing: list[MissingSource] = []
    for service, answer in zip(services, answers, strict=True):
        if isinstance(answer, TimelinePart):
            parts.append(answer)
            missing += [MissingSource(service=service, **gap.model_dump()) for gap in answer.gaps]
        else:
            names = (*SOURCES.get(service, ()), *MESSAGE_SOURCES)
            missing += [MissingSource(source=name, service=service, reason=answer, before=None) for name in names]
    began_at = get_creation_time(order_id)
    return order_parts(parts), [item for item in missing if _is_missing(item, began_at)]


def _is_missing(item: MissingSource, began_at: datetime | None) -> bool:
    """Whether something of an order is missing: what was pruned from before a time concerns older orders only."""
    return item.before is None or began_at is None or began_at < item.before


async def _fetch_part(context: GatewayContext, service: str, order_id: UUID) -> TimelinePart | str:
    """Its part, or why there is none."""
    try:
        return await context.call(build_timeline_operation(service), TimelineRequest(key=order_id))
    except NotFound:
        return f"the release of {service} that runs does not know timelines"
    except Problem as problem:
        log.warning("a part of a timeline is missing", target=service, error=repr(problem))
        return problem.detail or problem.title
    except CONNECTION_LOST as error:
        log.warning("a part of a timeline is missing", target=service, error=repr(error))
        return f"{service} has lost its database"
