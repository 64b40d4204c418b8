"""Pages lead to the dashboards, alerts and traces of what they show, for staff alone, and only as configured."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import ValidationError

from caravan.auth import Role
from observability.dashboards.library import BOARDS
from services.gateway.console.observability_links import DASHBOARDS, ObservabilityLinks
from services.gateway.console.registry import PAGES
from services.gateway.settings import Settings
from tests.services.gateway.console.console_case import ConsoleCase

LINKS = ObservabilityLinks(
    "https://grafana.example.com/", "https://alerts.example.com", "https://jaeger.example.com/trace/{trace_id}"
)
OUTSIDE = re.compile(r'<a href="(https://[^"]+)"([^>]*)>')


@pytest.fixture
async def linked_console(console: ConsoleCase) -> AsyncIterator[ConsoleCase]:
    state = console.shop.process.app.peers["gateway"].fastapi.state  # type: ignore[attr-defined]
    plain = state.console
    state.console = replace(plain, links=LINKS)
    yield console
    state.console = plain


def test_every_dashboard_that_a_page_leads_to_exists() -> None:
    assert {uid for links in DASHBOARDS.values() for _, uid in links} <= {board.uid for board in BOARDS}
    assert DASHBOARDS.keys() <= {page.name for page in PAGES}


def test_the_dashboard_of_one_order_is_opened_for_that_order() -> None:
    assert LINKS.list_links("order", {"order_id": "0199 1"})[0] == (
        "Order journey",
        "https://grafana.example.com/d/caravan-order-journey?var-order_id=0199+1",
    )
    variables = {variable.name for board in BOARDS if board.name == "order-journey" for variable in board.variables}
    assert "order_id" in variables


def test_what_is_not_configured_has_no_links() -> None:
    nothing = ObservabilityLinks("", "", "")
    assert nothing.list_links("system", {}) == []
    assert nothing.build_trace_url("4bf92f3577b34da6a3ce929d0e0e4736") == ""


def test_a_trace_id_can_not_leave_its_place() -> None:
    assert LINKS.build_trace_url("../x?y") == "https://jaeger.example.com/trace/..%2Fx%3Fy"


@pytest.mark.parametrize(
    ("variable", "url", "rule"),
    [
        ("grafana_url", "grafana.example.com", "is no address"),
        ("alerts_url", "javascript:alert(1)", "is no address"),
        ("grafana_url", "https://admin:secret@grafana.example.com", "must hold no user and no password"),
        ("trace_url", "https://jaeger.example.com/trace/", "belongs into GATEWAY_TRACE_URL"),
        ("alerts_url", "https://alerts.example.com/{trace_id}", "belongs into GATEWAY_TRACE_URL"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused(variable: str, url: str, rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings.model_validate({variable: url})


@pytest.mark.parametrize("role", ["staff", "admin"])
async def test_who_runs_the_shop_is_led_there(linked_console: ConsoleCase, role: Role) -> None:
    page = await linked_console.get(linked_console.create_session(role), "/console/orders")
    assert OUTSIDE.findall(page.text) == [
        ("https://grafana.example.com/d/caravan-shop", ' rel="noreferrer"'),
        ("https://alerts.example.com", ' rel="noreferrer"'),
    ]


async def test_a_customer_is_not(linked_console: ConsoleCase) -> None:
    page = await linked_console.get(linked_console.create_session("customer"), "/console/orders")
    assert page.status_code == 200
    assert OUTSIDE.findall(page.text) == []


async def test_a_problem_leads_staff_to_its_trace(linked_console: ConsoleCase) -> None:
    path = "/console/orders/0199e3a5-0000-7000-8000-000000000000"
    page = await linked_console.get(linked_console.create_session("staff"), path)
    assert page.status_code == 404
    assert [url for url, _ in OUTSIDE.findall(page.text) if re.search(r"/trace/[0-9a-f]{32}$", url)]
    page = await linked_console.get(linked_console.create_session("customer"), path)
    assert OUTSIDE.findall(page.text) == []
