"""Users and their roles. Names and addresses are masked until somebody asks for them, which the audit log records."""

from typing import Any

import orjson

from services.gateway.console.api_client import fill_path
from services.gateway.console.listing import build_url, load_list, read_filters
from services.gateway.console.page import ActionResult, PageRequest, View

PATH = "/console/users"
ROLES = ("customer", "staff", "admin")


async def load_users(request: PageRequest) -> View:
    view = await load_list(request, "/v1/users", PATH, read_filters(request, "email"))
    return {**view, "items": [mask_user(user) for user in view["items"]]}


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
        "orders_url": build_url("/console/orders", user_id=user["id"]),
        "audit_url": build_url("/console/audit", target=f"user:{user['id']}"),
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
