"""Reconciliation: how far the books are compared, the cases of what does not add up, and what can be done about one."""

import asyncio
from typing import Any

import orjson

from services.gateway.console.api_client import fill_path
from services.gateway.console.listing import load_list, read_filters
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/reconciliation"
API_PATH = "/v1/reconciliation"
STATES = ("open", "awaiting_approval", "repairing", "resolved", "closed", "dismissed")


async def load_cases(request: PageRequest) -> View:
    overview, view = await asyncio.gather(
        request.api.get(API_PATH),
        load_list(request, f"{API_PATH}/cases", PATH, read_filters(request, "state", "gap", "order_id")),
    )
    return {**view, "overview": overview, "states": STATES, "gaps": sum(row["gaps"] for row in overview["invariants"])}


async def load_case(request: PageRequest) -> View:
    case = await request.api.get(_fill_path(request))
    return {
        "title": case["title"],
        "case": case,
        "details": {name: _format_detail(value) for name, value in case["details"].items()},
        "can_repair": case["state"] == "open" and case["repair"] is not None,
        "can_approve": case["state"] == "awaiting_approval",
        "can_dismiss": case["state"] in ("open", "awaiting_approval"),
    }


def _format_detail(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


async def compare_now(request: PageRequest) -> ActionResult:
    await request.api.post(f"{API_PATH}/runs", {"mode": "full"})
    return ActionResult(PATH, "Everything is compared now, old orders too. Look again in a moment.")


async def repair_case(request: PageRequest) -> ActionResult:
    plan = await request.api.post(f"{_fill_path(request)}/repair", {"dry_run": False, **_read_reason(request)})
    waits = plan["outcome"] == "awaiting_approval"
    notice = "Another admin has to approve it." if waits else "The command is on its way. The case closes by itself."
    return ActionResult(_fill_page(request), notice)


async def approve_case(request: PageRequest) -> ActionResult:
    await request.api.post(f"{_fill_path(request)}/approve", _read_reason(request))
    return ActionResult(_fill_page(request), "Approved. The command is on its way, and the case closes by itself.")


async def dismiss_case(request: PageRequest) -> ActionResult:
    await request.api.post(f"{_fill_path(request)}/dismiss", {"reason": request.form.get("reason", "").strip()})
    return ActionResult(_fill_page(request), "Dismissed. The same gap opens no other case.")


def _read_reason(request: PageRequest) -> dict[str, str]:
    reason = request.form.get("reason", "").strip()
    return {"reason": reason} if reason else {}


def _fill_path(request: PageRequest) -> str:
    return fill_path(f"{API_PATH}/cases/{{case}}", case=request.path["case"])


def _fill_page(request: PageRequest) -> str:
    return fill_path(f"{PATH}/{{case}}", case=request.path["case"])
