"""Dead letters: by cause, what a redrive of a cause would do, and one by one with their messages."""

import asyncio
from typing import Any

import orjson

from services.gateway.console.api_client import fill_path
from services.gateway.console.listing import build_url
from services.gateway.console.page import ActionResult, PageRequest, View

LIST_PATH = "/console/failures"
PAGE_SIZE = 50
MAX_CALLS = 40
"""Of one redrive or discard: each takes as many as the API does at once, and the rest is for the next press."""
PERSONAL_FIELDS = frozenset(
    {
        "address",
        "city",
        "customer_name",
        "email",
        "name",
        "phone",
        "postcode",
        "recipient",
        "shipping_address",
        "street",
        "to",
    }
)
"""Of messages and jobs."""
PLAN_WORDS = {"redrive": "runs it again", "blocked": "is blocked", "not_redrivable": "can't run it"}
MAX_PAYLOAD_LENGTH = 20_000


async def load_failures(request: PageRequest) -> View:
    service = request.query.get("service", "")
    page = await request.api.get("/v1/failures", {"service": service, "limit": 1})
    return {
        "causes": page["causes"],
        "total": sum(cause["count"] for cause in page["causes"]),
        "failed": page["failed"],
        "is_truncated": page["truncated"],
        "service": service,
    }


async def load_cause(request: PageRequest) -> View:
    """With the plan of a redrive: a dry run of it."""
    cause, cursor = request.path["cause"], request.query.get("cursor", "")
    page, plan = await asyncio.gather(
        request.api.get("/v1/failures", {"cause": cause, "cursor": cursor, "limit": PAGE_SIZE}),
        request.api.post("/v1/failures/redrive", {"cause": cause, "dry_run": True}),
    )
    planned = {item["id"]: item for item in plan["items"]}
    return {
        "title": f"Failures of cause {cause[:12]}",
        "cause_name": cause,
        "cause": page["causes"][0] if page["causes"] else None,
        "failures": [{**item, "plan": planned.get(item["id"])} for item in page["items"]],
        "next_url": build_url(f"{LIST_PATH}/{cause}", cursor=page["next_cursor"]) if page["next_cursor"] else "",
        "is_first_page": not cursor,
        "plan": plan,
        "plan_words": PLAN_WORDS,
        "failed": sorted({*page["failed"], *plan["failed"]}),
    }


async def load_failure(request: PageRequest) -> View:
    path = fill_path("/v1/failures/{failure}", failure=request.path["failure"])
    failure = await request.api.get(path)
    is_shown = request.revealed == f"failure:{request.path['failure']}"
    shown = failure["payload"] if is_shown else mask_personal_data(failure["payload"])
    payload = orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode()
    return {
        "is_masked": shown != failure["payload"],
        "title": f"Failure of {failure['subscription'] or failure['channel']}",
        "failure": failure,
        "payload": payload[:MAX_PAYLOAD_LENGTH],
        "is_cut": len(payload) > MAX_PAYLOAD_LENGTH,
    }


def mask_personal_data(value: Any, is_personal: bool = False) -> Any:
    """The same with its persons hidden: what a field of PERSONAL_FIELDS holds, however deep."""
    if isinstance(value, dict):
        return {name: mask_personal_data(part, is_personal or name in PERSONAL_FIELDS) for name, part in value.items()}
    if isinstance(value, list):
        return [mask_personal_data(part, is_personal) for part in value]
    return f"{value[:1]}•••" if is_personal and isinstance(value, str) and value else value


async def show_personal_data(request: PageRequest) -> ActionResult:
    """Shown for a few minutes to whoever asked, who stands in the audit log."""
    failure = request.path["failure"]
    await request.api.get(fill_path("/v1/failures/{failure}", failure=failure))
    await request.record_disclosure(f"failure:{failure}")
    notice = "The whole message is shown for five minutes; the audit log says that you asked for it."
    return ActionResult(f"/console/failure/{failure}", notice, reveals=f"failure:{failure}")


async def redrive_cause(request: PageRequest) -> ActionResult:
    cause = request.path["cause"]
    result = await _act_on_all(request, "redrive", {"cause": cause})
    return ActionResult(LIST_PATH, _say_result(result, "handed to their consumers again"))


async def discard_cause(request: PageRequest) -> ActionResult:
    body = {"cause": request.path["cause"], "reason": request.form.get("reason", "").strip()}
    result = await _act_on_all(request, "discard", body)
    return ActionResult(LIST_PATH, _say_result(result, "discarded"))


async def redrive_failure(request: PageRequest) -> ActionResult:
    result = await request.api.post("/v1/failures/redrive", {"ids": [request.path["failure"]]})
    return ActionResult(LIST_PATH, _say_result(result, "handed to their consumers again"))


async def discard_failure(request: PageRequest) -> ActionResult:
    body = {"ids": [request.path["failure"]], "reason": request.form.get("reason", "").strip()}
    result = await request.api.post("/v1/failures/discard", body)
    return ActionResult(LIST_PATH, _say_result(result, "discarded"))


async def _act_on_all(request: PageRequest, action: str, body: dict[str, Any]) -> dict[str, Any]:
    """All that there were when the page was shown; what fails again meanwhile waits for the next press."""
    if as_of := request.form.get("as_of"):
        body["failed_before"] = as_of
    result = await request.api.post(f"/v1/failures/{action}", body)
    calls = 1
    while result["more"] and calls < MAX_CALLS:
        following = await request.api.post(f"/v1/failures/{action}", {**body, "failed_before": result["as_of"]})
        calls += 1
        if not following["done"]:
            break
        following["done"] += result["done"]
        following["as_of"] = result["as_of"]
        result = following
    return dict(result)


def _say_result(result: dict[str, Any], done: str) -> str:
    parts = [f"{result['done']} {done}"]
    if result["blocked"]:
        parts.append(f"{result['blocked']} blocked by an earlier failure of the same key")
    if result["not_redrivable"]:
        parts.append(f"{result['not_redrivable']} can't be redriven")
    if result["failed"]:
        parts.append(f"nothing was done at {', '.join(result['failed'])}, which could not be asked")
    if result["more"]:
        parts.append("more are left: do it once more")
    return f"{'; '.join(parts)}."
