"""Orders: the list with its filters."""

from urllib.parse import urlencode

from services.gateway.console.page import PageRequest, View

PAGE_SIZE = 50
STATUSES = (
    "created",
    "reserved",
    "paid",
    "shipped",
    "delivered",
    "rejected",
    "payment_failed",
    "cancelled",
    "refunded",
)


async def load_orders(request: PageRequest) -> View:
    status, cursor = request.query.get("status", ""), request.query.get("cursor", "")
    page = await request.api.get("/v1/orders", {"status": status, "cursor": cursor, "limit": PAGE_SIZE})
    next_query = {"status": status, "cursor": page["next_cursor"]}
    return {
        "orders": page["items"],
        "next_url": f"/console/orders?{urlencode(next_query)}" if page["next_cursor"] else "",
        "filters": {"status": status},
        "statuses": STATUSES,
    }
