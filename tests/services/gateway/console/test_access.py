"""Who may open which page and do what there: every role on every page and action of the table, and what a request has
to show before it changes anything.
"""

import re
from itertools import product
from typing import get_args
from urllib.parse import quote

import pytest

from caravan.auth import Role
from caravan.clock import new_id
from services.gateway.console.frame import RANKS, SIGN_IN_PATH
from services.gateway.console.origin import read_local_target
from services.gateway.console.page import Action, Page
from services.gateway.console.registry import HOME, PAGES
from tests.services.gateway.console.console_case import ConsoleCase

ROLES: tuple[Role | None, ...] = (None, *get_args(Role))
ACTIONS = [(page, action) for page in PAGES for action in page.actions]


def fill(template: str) -> str:
    return re.sub(r"{\w+}", str(new_id()), template)


def may(role: Role | None, least: Role) -> bool:
    return RANKS.get(role or "", 0) >= RANKS[least]


@pytest.mark.parametrize(("role", "page"), product(ROLES, PAGES), ids=lambda part: getattr(part, "name", part))
async def test_a_page_opens_for_its_roles_alone(console: ConsoleCase, role: Role | None, page: Page) -> None:
    path = fill(page.path)
    answer = await console.get(console.create_session(role) if role else None, path)
    if role is None:
        assert answer.status_code == 303
        assert answer.headers["location"] == f"{SIGN_IN_PATH}?next={quote(path, safe='')}"
    else:
        assert (answer.status_code == 403) is not may(role, page.role), answer.text
        assert answer.headers["content-type"].startswith("text/html")
        assert "Traceback" not in answer.text
        assert answer.status_code != 500


@pytest.mark.parametrize(("role", "target"), product(ROLES, ACTIONS), ids=lambda part: str(part)[:20])
async def test_an_action_is_for_its_roles_alone(
    console: ConsoleCase, role: Role | None, target: tuple[Page, Action]
) -> None:
    page, action = target
    answer = await console.post(console.create_session(role) if role else None, fill(page.build_action_path(action)))
    if role is None:
        assert answer.headers["location"] == SIGN_IN_PATH
    else:
        assert (answer.status_code == 403) is not may(role, action.role), answer.text


@pytest.mark.parametrize("target", ACTIONS, ids=lambda target: f"{target[0].name} {target[1].name}")
async def test_an_action_needs_a_form_of_this_session_and_of_this_origin(
    console: ConsoleCase, target: tuple[Page, Action]
) -> None:
    page, action = target
    session, path = console.create_session("admin"), fill(page.build_action_path(action))
    others = console.seal.derive_form_token(console.create_session("admin"))
    refused = [
        await console.post(session, path, {"form_token": ""}),
        await console.post(session, path, {"form_token": others}),
        await console.post(session, path, origin="https://elsewhere.example"),
        await console.post(session, path, origin="null"),
        await console.post(session, path, origin=""),
        await console.post(session, path, site="cross-site"),
        await console.post(session, path, site="same-site"),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)


@pytest.mark.parametrize(("role", "page"), product(get_args(Role), PAGES), ids=lambda part: getattr(part, "name", part))
async def test_the_navigation_offers_what_the_role_may_open(console: ConsoleCase, role: Role, page: Page) -> None:
    shown = await console.get(console.create_session(role), HOME)
    if page.section:
        assert (f'href="{page.path}"' in shown.text) is may(role, page.role)


@pytest.mark.parametrize("path", [HOME, SIGN_IN_PATH, "/console/nothing", "/console/nothing/at-all"])
async def test_no_page_runs_foreign_code_or_can_be_framed_or_kept(console: ConsoleCase, path: str) -> None:
    answer = await console.get(console.create_session("admin") if path != SIGN_IN_PATH else None, path)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    assert not re.search(
        r"<script(?![^>]* src=\"/console/static/)|<style|style=|\son\w+=|(src|href)=\"(https?:)?//", answer.text
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/console//elsewhere.example",
        "/console/../v1/users",
        "/console/%2e%2e/v1/users",
        "/console/.%2E/v1/users",
        "/console\\elsewhere",
        "/consoles",
        "/v1/users",
        "javascript:alert(1)",
        "/console/\r\nset-cookie: x=y",
        "/console/" + "x" * 3000,
    ],
)
def test_no_redirect_leaves_the_console(text: str) -> None:
    assert read_local_target(text, HOME) == HOME


@pytest.mark.parametrize(
    "text", ["/console", "/console/orders", "/console/orders?status=paid&cursor=a//b", "/console?x=1"]
)
def test_a_redirect_within_the_console_is_followed(text: str) -> None:
    assert read_local_target(text, "/elsewhere") == text
