"""Signing in and out of the console, and the renewal of its tokens."""

import asyncio
import re
import time
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi.responses import Response

from caravan.clock import new_id
from caravan.runtime import Backends
from services.gateway.console.frame import SIGN_IN_PATH
from services.gateway.console.registry import HOME
from services.gateway.console.session import SESSION_COOKIE, Session, SessionSeal
from services.gateway.console.setup import is_https_url
from tests.services.gateway.console.console_case import ConsoleCase, read_cookie
from tests.support.shop import URL, Shop, run_services

PASSWORD = "a long walk in Palmyra"


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    async with run_services(backends, "gateway", "identity", "orders") as running:
        yield running


async def register(shop: Shop) -> str:
    email = f"{new_id()}@example.com"
    body = {"email": email, "password": PASSWORD, "name": "Ada <b>Lovelace"}
    assert (await shop.client.post("/v1/users", json=body)).status_code == 201
    return email


async def sign_in(shop: Shop, email: str, password: str = PASSWORD, target: str = "") -> httpx2.Response:
    form = {"email": email, "password": password, "next": target}
    return await shop.client.post(SIGN_IN_PATH, data=form, headers={"origin": URL, "sec-fetch-site": "same-origin"})


async def open_session(shop: Shop) -> Session:
    answer = await sign_in(shop, await register(shop))
    session = ConsoleCase(shop).seal.read_session(read_cookie(answer, SESSION_COOKIE))
    assert session is not None
    return session


async def test_signing_in_makes_a_cookie_that_no_script_reads_and_no_other_site_sends(shop: Shop) -> None:
    answer = await sign_in(shop, await register(shop), target="/console/orders?status=paid")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/orders?status=paid")
    [cookie] = [one for one in answer.headers.get_list("set-cookie") if one.startswith(f"{SESSION_COOKIE}=")]
    assert {"HttpOnly", "Path=/console", "SameSite=strict"} <= set(cookie.split("; "))
    assert "eyJ" not in cookie  # sealed: the tokens are not to be read in it
    shown = await shop.client.get(HOME, headers={"cookie": cookie.partition(";")[0]})
    assert shown.status_code == 200
    assert "Ada &lt;b&gt;Lovelace" in shown.text


@pytest.mark.parametrize(("url", "is_secure"), [("https://shop.example", True), ("http://localhost:8080", False)])
def test_the_cookie_is_secure_where_the_shop_is_reached_by_https(url: str, is_secure: bool) -> None:
    response = Response()
    seal = SessionSeal("s" * 40, is_https=is_https_url(url))
    seal.write_session(response, Session("i", "a", "r", 1.0, "admin", "Ada"))
    assert ("Secure" in response.headers["set-cookie"]) is is_secure


async def test_a_wrong_password_is_said_on_the_page_and_keeps_the_address(shop: Shop) -> None:
    email = await register(shop)
    answer = await sign_in(shop, email, "not the password", target="https://elsewhere.example")
    assert answer.status_code == 400
    assert "The e-mail or the password is wrong." in answer.text
    assert f'value="{email}"' in answer.text
    assert f'name="next" value="{HOME}"' in answer.text
    assert not read_cookie(answer, SESSION_COOKIE)


async def test_another_site_can_sign_nobody_in(shop: Shop) -> None:
    form = {"email": await register(shop), "password": PASSWORD}
    answer = await shop.client.post(SIGN_IN_PATH, data=form, headers={"origin": "https://elsewhere.example"})
    assert answer.status_code == 403


async def test_signing_out_ends_the_session_in_the_whole_shop(shop: Shop) -> None:
    console, session = ConsoleCase(shop), await open_session(shop)
    answer = await console.post(session, "/console/sign-out")
    assert answer.headers["location"] == SIGN_IN_PATH
    assert f'{SESSION_COOKIE}=""' in answer.headers["set-cookie"]
    refused = await shop.client.post(
        "/v1/auth/token", data={"grant_type": "refresh_token", "refresh_token": session.refresh_token}
    )
    assert refused.status_code == 400


async def test_tokens_are_renewed_once_for_all_who_ask_at_the_same_moment(shop: Shop) -> None:
    console, session = ConsoleCase(shop), await open_session(shop)
    old = session.renew_tokens(session.access_token, session.refresh_token, time.time() + 5, session.role)
    answers = await asyncio.gather(*(console.get(old, HOME) for _ in range(8)))
    assert [answer.status_code for answer in answers] == [200] * 8
    renewed = {console.seal.read_session(read_cookie(answer, SESSION_COOKIE)) for answer in answers}
    assert len(renewed) == 1
    [session_after] = renewed
    assert session_after is not None
    assert (session_after.id, session_after.name) == (session.id, session.name)
    assert session_after.refresh_token != session.refresh_token
    assert (await console.get(session_after, HOME)).status_code == 200  # the shop has not taken it for a theft


async def test_another_replica_takes_what_the_first_has_got(shop: Shop) -> None:
    console, session = ConsoleCase(shop), await open_session(shop)
    old = session.renew_tokens(session.access_token, session.refresh_token, time.time() + 5, session.role)
    first = read_cookie(await console.get(old, HOME), SESSION_COOKIE)
    console.console.sessions._renewals.clear()
    second = read_cookie(await console.get(old, HOME), SESSION_COOKIE)
    assert console.seal.read_session(first) == console.seal.read_session(second)


async def test_a_session_that_has_ended_leads_to_the_sign_in_and_its_cookie_goes(shop: Shop) -> None:
    console, session = ConsoleCase(shop), await open_session(shop)
    await shop.client.post("/v1/auth/revoke", json={"token": session.refresh_token})
    old = session.renew_tokens(session.access_token, session.refresh_token, time.time() + 5, session.role)
    answer = await console.get(old, "/console/orders?status=paid")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{SIGN_IN_PATH}?next=%2Fconsole%2Forders%3Fstatus%3Dpaid"
    assert f'{SESSION_COOKIE}=""' in answer.headers["set-cookie"]


@pytest.mark.parametrize("cookie", ["", "nonsense", "gAAAAA" + "A" * 80, "\xe9"])
async def test_a_cookie_that_is_not_ours_is_nobody(shop: Shop, cookie: str) -> None:
    headers = {b"cookie": f"{SESSION_COOKIE}={cookie}".encode("latin-1")}
    answer = await shop.client.get(HOME, headers=headers)
    assert answer.status_code == 303


async def test_who_follows_a_link_of_another_site_is_let_ask_again(shop: Shop) -> None:
    """The browser keeps the cookie back for the first request alone."""
    answer = await shop.client.get(HOME, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
    assert re.search(r'http-equiv="refresh" content="0"', answer.text)


async def test_a_browser_that_comes_back_from_the_issuer_gets_a_session_of_the_console(shop: Shop) -> None:
    """Identity leaves the first refresh token of the session in a cookie, for one use."""
    form = {"grant_type": "password", "username": await register(shop), "password": PASSWORD}
    token = (await shop.client.post("/v1/auth/token", data=form)).json()["refresh_token"]
    headers = {"cookie": f"caravan-sign-in={token}", "sec-fetch-site": "cross-site"}
    path = "/console/signed-in?next=/console/orders%3Fstatus%3Dpaid"
    answer = await shop.client.get(path, headers=headers)
    assert answer.status_code == 200
    assert 'content="0;url=/console/orders?status=paid"' in answer.text
    assert read_cookie(answer, "caravan-sign-in") == ""
    session = ConsoleCase(shop).seal.read_session(read_cookie(answer, SESSION_COOKIE))
    assert (await ConsoleCase(shop).get(session, HOME)).status_code == 200
    again = await shop.client.get(path, headers=headers)
    assert again.status_code == 400
    assert not read_cookie(again, SESSION_COOKIE)
    assert (await shop.client.get(path)).headers["location"] == SIGN_IN_PATH
