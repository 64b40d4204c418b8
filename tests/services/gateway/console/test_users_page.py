"""Users in the console: masked until somebody asks, and changed through the API."""

from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

import orjson

from services.gateway.console.api_client import Answer
from services.gateway.console.page import PageRequest
from services.gateway.console.views import users

USER = {
    "id": str(UUID(int=7)),
    "email": "ada.lovelace@example.com",
    "name": "Ada Lovelace",
    "role": "customer",
    "disabled": False,
}


@dataclass
class StandInApi:
    sent: list[tuple[str, str, Any]] = field(default_factory=list)

    async def get(self, path: str, query: Any = None) -> Any:
        return {"items": [USER], "next_cursor": "n"} if path == "/v1/users" else USER

    async def send(self, method: str, path: str, query: Any, content: bytes, content_type: str) -> Answer:
        self.sent.append((method, path, orjson.loads(content)))
        return Answer(200, {}, b"{}")


@dataclass
class Case:
    api: StandInApi = field(default_factory=StandInApi)
    disclosures: list[str] = field(default_factory=list)

    def ask(self, revealed: str = "", **form: str) -> PageRequest:
        async def record_disclosure(subject: str) -> None:
            self.disclosures.append(subject)

        path = {"user": USER["id"]}
        return PageRequest(cast(Any, self.api), cast(Any, None), cast(Any, path), {}, record_disclosure, revealed, form)


async def test_lists_and_pages_show_nobody_until_somebody_asks() -> None:
    case = Case()
    listed, shown = await users.load_users(case.ask()), await users.load_user(case.ask())
    for user in (listed["items"][0], shown["user"]):
        assert "ovelace" not in orjson.dumps(user).decode() and "example" not in user["email"]
    assert shown["is_masked"] and case.disclosures == []


async def test_who_asks_stands_in_the_audit_log_and_sees_that_user_alone() -> None:
    case = Case()
    result = await users.show_personal_data(case.ask())
    assert case.disclosures == [result.reveals] == [f"user:{USER['id']}"]
    assert (await users.load_user(case.ask(result.reveals)))["user"]["email"] == USER["email"]
    assert (await users.load_user(case.ask("user:another")))["is_masked"]


async def test_roles_and_disabling_go_through_the_api() -> None:
    case = Case()
    await users.change_role(case.ask(role="staff"))
    await users.disable_user(case.ask())
    await users.enable_user(case.ask())
    path = f"/v1/users/{USER['id']}"
    assert case.api.sent == [
        ("PATCH", path, {"role": "staff"}),
        ("PATCH", path, {"disabled": True}),
        ("PATCH", path, {"disabled": False}),
    ]
