"""One order: what it is, how far it has come, and its timeline."""

import asyncio
from typing import Any

from services.gateway.console.api_client import ApiRefused, fill_path
from services.gateway.console.page import ActionResult, PageRequest, View
from services.gateway.console.timeline_rows import GROUPS, build_rows

STEPS = ("created", "reserved", "paid", "shipped", "delivered")
MASKED_FIELDS = ("name", "street", "city", "postcode")


async def load_order(request: PageRequest) -> View:
    path = fill_path("/v1/orders/{order_id}", order_id=request.path["order_id"])
    order, timeline = await asyncio.gather(request.api.get(path), _read_timeline(request, path))
    group = request.query.get("show", "")
    items = timeline["items"]
    is_own = request.session.role == "customer"
    is_shown = is_own or request.revealed == _name_subject(request)
    return {
        "title": f"Order {order['id'][-12:]}",
        "live_after": order["version"],
        "order": order,
        "address": order["shipping_address"] if is_shown else _mask_address(order["shipping_address"]),
        "is_masked": not is_shown,
        "steps": build_steps(order["status"], items),
        "rows": build_rows(items, group),
        "item_count": len(items),
        "groups": GROUPS,
        "group": group if group in GROUPS else "",
        "since": request.query.get("from", ""),
        "timeline": timeline,
        "can_cancel": order["status"] in STEPS[:3] and not order["cancelling"],
    }


async def _read_timeline(request: PageRequest, path: str) -> dict[str, Any]:
    """`problem`: why there is none; the order is shown without it."""
    try:
        timeline = await request.api.get(f"{path}/timeline", {"from": request.query.get("from")})
        return {**timeline, "problem": ""}
    except ApiRefused as refused:
        return {"items": [], "partial": [], "difference": None, "problem": str(refused)}


def build_steps(status: str, items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The way of an order to its customer, with the times; one that has ended otherwise has that as its last step."""
    times: dict[str, str] = {}
    for item in items:
        if item["source"] == "events" and item["state"].get("status"):
            times.setdefault(item["state"]["status"], item["time"])
    names = STEPS if status in STEPS else (*(name for name in STEPS if name in times), status)
    reached = STEPS.index(status) if status in STEPS else len(names)
    return [
        {"name": name, "time": times.get(name), "is_reached": index <= reached, "is_last": name == status}
        for index, name in enumerate(names)
    ]


def _mask_address(address: dict[str, str]) -> dict[str, str]:
    """One line that tells two orders apart, and nobody."""
    masked = [f"{address[name][:1]}•••" for name in MASKED_FIELDS if address.get(name)]
    return {"street": ", ".join([*masked, address.get("country", "")])}


def _name_subject(request: PageRequest) -> str:
    return f"order:{request.path['order_id']}"


async def show_personal_data(request: PageRequest) -> ActionResult:
    """Shown for a few minutes to whoever asked, who stands in the audit log."""
    await request.api.get(fill_path("/v1/orders/{order_id}", order_id=request.path["order_id"]))
    subject = _name_subject(request)
    await request.record_disclosure(subject)
    notice = "The address is shown for five minutes; the audit log says that you asked for it."
    return ActionResult(f"/console/orders/{request.path['order_id']}", notice, reveals=subject)


async def cancel_order(request: PageRequest) -> ActionResult:
    path = fill_path("/v1/orders/{order_id}", order_id=request.path["order_id"])
    reason = request.form.get("reason", "").strip()
    await request.api.post(f"{path}/cancel", {"reason": reason} if reason else None)
    return ActionResult(f"/console/orders/{request.path['order_id']}", "The order is being cancelled.")
