"""The fields of the subscription type: live status, from the same streams that REST serves."""

from collections.abc import AsyncGenerator
from typing import Any

import strawberry
from strawberry.types import Info

from services.gateway.graphql.fields import PARENT
from services.gateway.graphql.policy import PLAIN, Policy
from services.gateway.graphql.scalars import DateTime, Long, Uuid
from services.gateway.graphql.service_calls import fill_path


def _attribute() -> Any:
    return strawberry.field(metadata=PLAIN.as_metadata())


@strawberry.type(description="A change of an order.")
class OrderChange:
    version: int = _attribute()
    type: str = _attribute()
    status: str = _attribute()
    time: DateTime = _attribute()


@strawberry.type(description="What is there of a product now.")
class StockChange:
    sku: str = _attribute()
    on_hand: Long = _attribute()
    reserved: Long = _attribute()
    available: Long = _attribute()


async def _watch_order(
    root: PARENT, info: Info[Any, Any], order_id: Uuid, after_version: int = 0
) -> AsyncGenerator[OrderChange, None]:
    path = fill_path("/v1/orders/{order_id}/events", {"order_id": order_id})
    async for event in info.context.calls.listen("orders", path, after_version):
        yield event


async def _watch_stock(root: PARENT, info: Info[Any, Any], sku: str) -> AsyncGenerator[StockChange, None]:
    path = fill_path("/v1/stock/{sku}/events", {"sku": sku})
    async for event in info.context.calls.listen("inventory", path, 0):
        yield event


def build_subscription_type() -> Any:
    namespace = {
        "order_changes": strawberry.subscription(
            resolver=_watch_order,
            description="The changes of an order, those after a version first, until it has ended.",
            metadata=Policy("user", calls=1).as_metadata(),
        ),
        "stock_changes": strawberry.subscription(
            resolver=_watch_stock,
            description="The stock of a product now, and as it changes.",
            metadata=Policy("public", calls=1).as_metadata(),
        ),
    }
    return strawberry.type(type("Subscription", (), namespace), description="What can be watched.")
