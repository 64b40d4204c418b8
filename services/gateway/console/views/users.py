"""Users and their roles. Names and addresses are masked until somebody asks for them, which the audit log records."""

from typing import Any
from urllib.parse import urlencode

import orjson

from services.gateway.console.api_client import ApiRefused, fill_path
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/users"
PAGE_SIZE = 50
ROLES = ("customer", "staff", "admin")


async def load_users(request: PageRequest) -> View:
    email, cursor = request.query.get("email", "").strip(), request.query.get("cursor", "")
    view: View = {"email": email, "is_first_page": not cursor, "users": [], "next_url": "", "problem": ""}
    try:
        page = await request.api.get("/v1/users", {"email": email, "cursor": cursor, "limit": PAGE_SIZE})
    except ApiRefused as refused:
        if refused.status not in (400, 422):
            raise
        return {**view, "problem": str(refused)}
    next_query = urlencode({"cursor": page["next_cursor"] or ""})
    return {
        **view,
        "users": [mask_user(user) for user in page["items"]],
        "next_url": f"{PATH}?{next_query}" if page["next_cursor"] else "",
    }


def mask_user(user: dict[str, Any]) -> dict[str, Any]:
    """Enough to tell two users apart, and to know nobody."""
    local, _, host = user["email"].partition("@")
    name = " ".join(f"{part[:1]}•••" for part in user["name"].split()[:3])
    return {**user, "email": f"{local[:1]}•••@{host[:1]}•••", "name": name}


async def load_user(request: PageRequest) -> View:
    user = await request.api.get(fill_path("/v1/users/{user}", user=request.path["user"]))
    is_shown = request.revealed == _name_subject(request)
    return {
        "user": user if is_shown else mask_user(user),
        "is_masked": not is_shown,
        "roles": ROLES,
        "orders_url": f"/console/orders?{urlencode({'user_id': user['id']})}",
        "audit_url": f"/console/audit?{urlencode({'target': 'user:' + user['id']})}",
    }


def _name_subject(request: PageRequest) -> str:
    return f"user:{request.path['user']}"


async def show_personal_data(request: PageRequest) -> ActionResult:
    """Shown for a few minutes to whoever asked, who stands in the audit log."""
    await request.api.get(fill_path("/v1/users/{user}", user=request.path["user"]))
    subject = _name_subject(request)
    await request.record_disclosure(subject)
    notice = "Name and address are shown for five minutes; the audit log says that you asked for them."
    return ActionResult(f"{PATH}/{request.path['user']}", notice, reveals=subject)


async def change_role(request: PageRequest) -> ActionResult:
    role = request.form.get("role", "")
    await _change_user(request, {"role": role})
    return ActionResult(f"{PATH}/{request.path['user']}", f"The user is now {role}. Their sessions have ended.")


async def disable_user(request: PageRequest) -> ActionResult:
    await _change_user(request, {"disabled": True})
    return ActionResult(f"{PATH}/{request.path['user']}", "The user can't sign in any more. Their sessions have ended.")


async def enable_user(request: PageRequest) -> ActionResult:
    await _change_user(request, {"disabled": False})
    return ActionResult(f"{PATH}/{request.path['user']}", "The user can sign in again.")


async def _change_user(request: PageRequest, patch: dict[str, Any]) -> None:
    path = fill_path("/v1/users/{user}", user=request.path["user"])
    (await request.api.send("PATCH", path, None, orjson.dumps(patch), "application/json")).parse()
