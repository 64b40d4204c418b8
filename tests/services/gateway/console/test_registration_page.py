"""Registering on a page of the console, and what it refuses."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from caravan.clock import new_id
from caravan.runtime import Backends
from services.gateway.console.registration import REGISTER_PATH
from services.gateway.console.registry import HOME
from services.gateway.console.session import SESSION_COOKIE
from tests.services.gateway.console.console_case import ConsoleCase, read_cookie
from tests.support.shop import URL, Shop, run_services

PASSWORD = "a long walk in Palmyra"


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", "identity", "orders") as running:
        yield running


async def register(shop: Shop, *, origin: str = URL, site: str = "same-origin", **fields: str) -> httpx2.Response:
    form = {"name": "Ada", "email": f"{new_id()}@example.com", "password": PASSWORD, "key": str(new_id()), **fields}
    return await shop.client.post(REGISTER_PATH, data=form, headers={"origin": origin, "sec-fetch-site": site})


async def test_whoever_registers_is_a_customer_who_is_signed_in(shop: Shop) -> None:
    answer = await register(shop, next="/console/orders?status=paid")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/orders?status=paid")
    session = ConsoleCase(shop).seal.read_session(read_cookie(answer, SESSION_COOKIE))
    assert session is not None and (session.role, session.name) == ("customer", "Ada")


async def test_a_form_that_is_sent_twice_is_one_account(shop: Shop) -> None:
    fields = {"email": f"{new_id()}@example.com", "key": str(new_id())}
    assert [(await register(shop, **fields)).status_code for _ in range(2)] == [303, 303]


async def test_a_redirect_stays_in_the_console(shop: Shop) -> None:
    assert (await register(shop, next="https://elsewhere.example/")).headers["location"] == HOME


@pytest.mark.parametrize(
    ("field", "value"),
    [("password", "short"), ("password", "1234567890"), ("email", "nobody"), ("name", ""), ("name", "a\x00b")],
)
async def test_what_is_not_valid_is_said_and_what_was_typed_stays(shop: Shop, field: str, value: str) -> None:
    answer = await register(shop, **{"name": "<b>Ada</b>", field: value})
    assert answer.status_code == 422
    assert 'id="register-problem"' in answer.text and field in answer.text
    assert "<b>Ada" not in answer.text and PASSWORD not in answer.text
    assert read_cookie(answer, SESSION_COOKIE) == ""


async def test_a_taken_address_is_refused_without_a_session(shop: Shop) -> None:
    email = f"{new_id()}@example.com"
    await register(shop, email=email)
    answer = await register(shop, email=email)
    assert (answer.status_code, read_cookie(answer, SESSION_COOKIE)) == (409, "")
    assert "sign in" in answer.text


@pytest.mark.parametrize("sent", [{"origin": "https://elsewhere.example"}, {"site": "cross-site"}, {"origin": "null"}])
async def test_no_page_of_another_site_registers_anybody(shop: Shop, sent: dict[str, str]) -> None:
    assert (await register(shop, **sent)).status_code == 403
