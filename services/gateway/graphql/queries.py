"""The fields of the query type: each one read of a service's public API."""

from typing import Any

import strawberry
from strawberry.types import Info

from caravan.dead_letters.schemas import DeadLetterView
from services.analytics.schemas import AuditItem, Dashboard
from services.catalog.schemas import CategoryDocument
from services.gateway.admin.job_admin import JobView
from services.gateway.graphql import cache_tags
from services.gateway.graphql.connections import get_connection, read_page
from services.gateway.graphql.fields import make_field
from services.gateway.graphql.policy import DEFAULT_FIRST, TIMELINE_PRICE, Policy
from services.gateway.graphql.reads import ListRead, PageRead, Read
from services.gateway.graphql.report_reads import REPORT_READS
from services.gateway.graphql.scalars import DateTime, Uuid
from services.gateway.graphql.service_calls import fill_path
from services.gateway.graphql.shapes import get_type
from services.gateway.graphql.types import Order, Product, Recommendation
from services.gateway.schemas import Timeline
from services.gateway.system.view import SystemStatus
from services.identity.schemas import User
from services.inventory.schemas import BalanceDocument, MovementDocument, StockDocument
from services.notifications.schemas import CampaignView, NotificationView, PreferenceView
from services.orders.schemas import OrderHistory
from services.payments.schemas import PaymentDocument, PaymentItem
from services.shipping.schemas import ShipmentDocument

READS: dict[str, Read] = {
    "me": Read("identity", "/v1/users/me", get_type(User), "user", "You."),
    "user": Read(
        "identity",
        "/v1/users/{user_id}",
        get_type(User),
        "user",
        "A user: you, or anybody for an admin.",
        {"user_id": Uuid},
    ),
    "users": PageRead(
        "identity", "/v1/users", get_type(User), "admin", "All users, the newest first.", optional={"email": str}
    ),
    "product": Read(
        "catalog",
        "/v1/products/{sku}",
        Product,
        "public",
        "A product.",
        {"sku": str},
        list_tags=cache_tags.list_product_tags,
    ),
    "products": PageRead(
        "catalog",
        "/v1/products",
        Product,
        "public",
        "Products: all, those found by a search, or those of a category.",
        optional={"search": str, "category": str, "skus": str, "sort": str, "withdrawn": bool},
        list_tags=cache_tags.list_products_tags,
    ),
    "categories": PageRead("catalog", "/v1/categories", get_type(CategoryDocument), "public", "All categories."),
    "stock": Read(
        "inventory",
        "/v1/stock/{sku}",
        get_type(StockDocument),
        "public",
        "What is there of a product.",
        {"sku": str},
        list_tags=cache_tags.list_stock_tags,
    ),
    "stock_balance": Read(
        "inventory",
        "/v1/stock/{sku}/balance",
        get_type(BalanceDocument),
        "staff",
        "The whole account of a product's stock.",
        {"sku": str},
    ),
    "stock_movements": PageRead(
        "inventory",
        "/v1/stock/{sku}/movements",
        get_type(MovementDocument),
        "staff",
        "The ledger of a product's stock, the newest first.",
        {"sku": str},
    ),
    "order": Read(
        "orders",
        "/v1/orders/{order_id}",
        Order,
        "user",
        "An order of yours (for staff: any), now or as it was at a version or a time.",
        {"order_id": Uuid},
        {"version": int, "at": DateTime, "min_version": int},
    ),
    "orders": PageRead(
        "orders",
        "/v1/orders",
        Order,
        "user",
        "Your orders (for staff: everybody's), the newest first.",
        optional={"status": str, "user_id": Uuid, "trace_id": str},
        query={"view": "full"},
    ),
    "order_history": Read(
        "orders",
        "/v1/orders/{order_id}/history",
        get_type(OrderHistory),
        "user",
        "Every event of an order.",
        {"order_id": Uuid},
    ),
    "order_timeline": Read(
        "gateway",
        "/v1/orders/{order_id}/timeline",
        get_type(Timeline),
        "user",
        "All that happened to an order, in the order of its causes; `difference` is what changed between two moments.",
        {"order_id": Uuid},
        {"from_": DateTime, "to": DateTime},
        price=TIMELINE_PRICE,
    ),
    "payment": Read(
        "payments",
        "/v1/payments/{order_id}",
        get_type(PaymentDocument),
        "user",
        "The payment of an order: attempts, captures, refunds.",
        {"order_id": Uuid},
    ),
    "shipment": Read(
        "shipping",
        "/v1/shipments/{order_id}",
        get_type(ShipmentDocument),
        "user",
        "Where the parcels of an order are.",
        {"order_id": Uuid},
    ),
    "payments": PageRead(
        "payments", "/v1/payments", get_type(PaymentItem), "staff", "All payments.", optional={"status": str}
    ),
    "notifications": PageRead(
        "notifications",
        "/v1/notifications",
        get_type(NotificationView),
        "user",
        "What was sent to you, the newest first; staff may name a user or an order.",
        optional={"state": str, "order_id": Uuid, "user_id": Uuid},
    ),
    "preferences": Read(
        "notifications", "/v1/users/me/preferences", get_type(PreferenceView), "user", "How you want to be reached."
    ),
    "campaigns": PageRead("notifications", "/v1/campaigns", get_type(CampaignView), "staff", "All campaigns."),
    "campaign": Read(
        "notifications",
        "/v1/campaigns/{campaign_id}",
        get_type(CampaignView),
        "staff",
        "A campaign and its runs.",
        {"campaign_id": Uuid},
    ),
    "recommendations": ListRead(
        "recommendations",
        "/v1/recommendations",
        Recommendation,
        "user",
        "What we recommend to you, the best first.",
        list_tags=cache_tags.list_recommendation_tags,
    ),
    "product_recommendations": ListRead(
        "recommendations",
        "/v1/products/{sku}/recommendations",
        Recommendation,
        "public",
        "What is bought together with a product.",
        {"sku": str},
    ),
    **REPORT_READS,
    "dashboard": Read("analytics", "/v1/dashboard", get_type(Dashboard), "staff", "Today."),
    "audit": PageRead(
        "analytics",
        "/v1/audit",
        get_type(AuditItem),
        "admin",
        "Who did what, the newest first.",
        optional={"actor": str, "action": str, "target": str, "from_": DateTime, "to": DateTime},
    ),
    "failures": PageRead(
        "gateway",
        "/v1/failures",
        get_type(DeadLetterView),
        "admin",
        "Messages and jobs that were given up, the oldest first.",
        optional={"service": str, "cause": str, "channel": str},
    ),
    "failure": Read(
        "gateway",
        "/v1/failures/{failure_id}",
        get_type(DeadLetterView),
        "admin",
        "A failure with its whole message.",
        {"failure_id": str},
    ),
    "jobs": PageRead(
        "gateway",
        "/v1/jobs",
        get_type(JobView),
        "admin",
        "Background jobs of all services, the oldest first.",
        optional={"state": str, "queue": str},
    ),
    "job": Read("gateway", "/v1/jobs/{job_id}", get_type(JobView), "admin", "A background job.", {"job_id": str}),
    "system": Read(
        "gateway",
        "/v1/system",
        get_type(SystemStatus),
        "staff",
        "How the shop is doing now: processes, rates, what waits, breakers, caches, job queues.",
        price=TIMELINE_PRICE,
    ),
}


def _make_query_field(read: Read) -> Any:
    arguments = {**read.required, **{name: kind | None for name, kind in read.optional.items()}}
    defaults: dict[str, Any] = dict.fromkeys(read.optional)
    graphql_type = read.shape
    if isinstance(read, PageRead | ListRead):
        arguments["first"], defaults["first"] = int, DEFAULT_FIRST
        listed = isinstance(read, ListRead)
        graphql_type = list[read.shape] if listed else get_connection(read.shape)  # type: ignore[name-defined]
    if isinstance(read, PageRead):
        arguments["after"], defaults["after"] = str | None, None

    async def resolve(info: Info[Any, Any], given: dict[str, Any]) -> Any:
        calls = info.context.calls
        names = [name.removesuffix("_") for name in read.required]
        path = fill_path(read.template, {name: given.pop(name) for name in names})
        if isinstance(read, PageRead):
            first, after = given.pop("first"), given.pop("after")
            value = await read_page(calls, read.service, path, {**read.query, **given}, first, after)
        elif isinstance(read, ListRead):
            value = (await calls.read(read.service, path, {"limit": given["first"]}))["items"]
        else:
            value = await calls.read(read.service, path, {**read.query, **given})
        await info.context.attach_joins(info, value)
        return value

    policy = Policy(read.scope, calls=1, price=read.price, list_tags=read.list_tags)
    return make_field(graphql_type | None, arguments, defaults, resolve, policy, read.description)


def build_query_type() -> Any:
    namespace = {name: _make_query_field(read) for name, read in READS.items()}
    return strawberry.type(type("Query", (), namespace), description="What can be read.")
