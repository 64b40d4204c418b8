"""Signing in with a browser at an outside issuer, a process of its own: the way there, the way back, and out again."""

from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from caravan.runtime import Backends
from tests.services.identity.browser import CALLBACK, LOGIN, Browser, assert_refused, open_browser
from tests.services.identity.conftest import IdentityClient
from tests.services.identity.outside_issuer import OutsideIssuer, audited, person, run_identity
from tests.support.openid_provider import CLIENT_ID
from tests.support.shop import URL

pytestmark = pytest.mark.usefixtures("restored_issuer")


@pytest.fixture(scope="module")
async def identity(backends: Backends, issuer: OutsideIssuer) -> AsyncIterator[IdentityClient]:
    async with run_identity(backends, issuer.url) as running:
        yield running


@pytest.fixture
async def browser(identity: IdentityClient, issuer: OutsideIssuer) -> AsyncIterator[Browser]:
    async with open_browser(identity) as opened:
        yield Browser(opened, issuer)


async def test_the_browser_comes_back_with_a_session_of_the_shop(
    identity: IdentityClient, issuer: OutsideIssuer, browser: Browser
) -> None:
    (provider,) = (await browser.shop.get("/v1/auth/providers")).json()["items"]
    assert provider == {"label": "your company account", "issuer": issuer.url, "login_path": LOGIN}
    await issuer.steer("set", user=(claims := person(groups=["shop-staff"])))
    page = await browser.begin()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
    assert page.startswith(f"{issuer.url}/authorize?")
    assert (asked["client_id"], asked["redirect_uri"]) == (CLIENT_ID, f"{URL}{CALLBACK}")
    assert (asked["response_type"], asked["scope"]) == ("code", "openid email profile")
    back = await browser.agree(page)
    answer = await browser.shop.get(back)
    assert (answer.status_code, answer.headers["location"]) == (303, "/console?tab=1")
    assert answer.headers["referrer-policy"] == "no-referrer"
    token = answer.cookies["caravan-sign-in"]
    tokens = (await identity.refresh(token)).raise_for_status().json()
    user = (await identity.me(tokens["access_token"])).json()
    assert (user["email"], user["role"], user["external"]) == (claims["email"], "staff", True)
    (signed_in,) = await audited(identity, user["id"], "login.succeeded")
    assert signed_in["details"]["issuer"] == issuer.url
    assert (await identity.refresh(token)).status_code == 400, "it is for one use"


async def test_the_cookies_are_for_this_sign_in_alone(browser: Browser) -> None:
    begun = await browser.shop.get(LOGIN)
    cookie = begun.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert f"Path={CALLBACK}" in cookie
    assert "Max-Age=600" in cookie
    page = begun.headers["location"]
    query = parse_qs(urlsplit(page).query)
    assert query["state"][0] not in cookie, "sealed"
    ended = await browser.shop.get(await browser.agree(page))
    written = ended.headers.get_list("set-cookie")
    (session,) = [text for text in written if text.startswith("caravan-sign-in=")]
    assert all(part in session for part in ("HttpOnly", "SameSite=lax", "Max-Age=60", "Path=/"))
    assert any(text.startswith('caravan-login="";') and "Max-Age=0" in text for text in written)


async def test_over_https_the_cookies_are_secure(identity: IdentityClient, browser: Browser) -> None:
    context = identity.shop.get_context("identity")
    context.url = "https://shop.test"
    try:
        assert "Secure" in (await browser.shop.get(LOGIN)).headers["set-cookie"]
    finally:
        context.url = URL


async def test_an_issuer_that_is_slow_or_fails_is_said_so(
    identity: IdentityClient, issuer: OutsideIssuer, browser: Browser
) -> None:
    for fault in ({"status": 500}, {"body": "no json"}, {"redirect": "http://127.0.0.1:1/"}, {"padding": 300_000}):
        back = await browser.agree(await browser.begin())
        await issuer.steer("set", faults={"/token": fault})
        assert_refused(await browser.shop.get(back), "try again", 503)
    await issuer.restore()
    provider = identity.shop.get_context("identity").resources.provider
    provider._metadata_until = float("-inf")
    await issuer.steer("set", faults={"/.well-known/openid-configuration": {"status": 503}})
    answer = await browser.shop.get(LOGIN)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")


async def test_what_the_id_token_lacks_is_asked_for(issuer: OutsideIssuer, browser: Browser) -> None:
    await issuer.steer("set", id_token={"email": None, "groups": None})
    assert (await browser.sign_in(groups=["shop-staff"])).status_code == 303
    await issuer.steer("set", id_token={"email": None, "sub": "somebody else"})
    assert_refused(await browser.sign_in(), "somebody else")


async def test_a_user_who_may_not_sign_in_gets_no_session(identity: IdentityClient, browser: Browser) -> None:
    taken = (await identity.register()).raise_for_status().json()
    assert_refused(await browser.sign_in(email=taken["email"]), "has an account in this shop")
    user = person()
    assert (await browser.sign_in(**user)).status_code == 303
    listed = (
        await identity.client.get("/v1/users", params={"email": user["email"]}, headers=await identity.operator())
    ).json()["items"]
    path = f"/v1/users/{listed[0]['id']}"
    (await identity.client.patch(path, json={"disabled": True}, headers=await identity.operator())).raise_for_status()
    assert_refused(await browser.sign_in(**user), "disabled")


async def test_a_session_lasts_as_long_as_set_and_ends_at_the_issuer_too(
    identity: IdentityClient, issuer: OutsideIssuer, browser: Browser
) -> None:
    answer = await browser.sign_in()
    tokens = (await identity.refresh(answer.cookies["caravan-sign-in"])).raise_for_status().json()
    database = identity.shop.get_context("identity").database
    hours = await database.fetchval(
        "SELECT extract(epoch FROM expires_at - created_at) / 3600 FROM session ORDER BY created_at DESC LIMIT 1"
    )
    assert hours == 10
    signed_out = await identity.client.post("/v1/auth/revoke", json={"token": tokens["refresh_token"]})
    url = signed_out.json()["end_session_url"]
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    assert url.startswith(f"{issuer.url}/logout?")
    assert (query["client_id"], query["post_logout_redirect_uri"]) == (CLIENT_ID, f"{URL}/")
    assert query["id_token_hint"].count(".") == 2
    assert (await issuer.http.get(url)).headers["location"] == f"{URL}/"
    assert (await identity.me(tokens["access_token"])).status_code == 401
    again = await identity.client.post("/v1/auth/revoke", json={"token": tokens["refresh_token"]})
    assert (again.status_code, again.json()) == (200, {})
    shop_user = await identity.person()
    own = await identity.client.post("/v1/auth/revoke", json={"token": shop_user.refresh})
    assert (own.status_code, own.json()) == (200, {})


async def test_without_a_client_there_is_no_sign_in_with_a_browser(backends: Backends, issuer: OutsideIssuer) -> None:
    async with run_identity(
        backends, issuer.url, IDENTITY_OIDC_CLIENT_ID="", IDENTITY_OIDC_CLIENT_SECRET=""
    ) as identity:
        assert (await identity.client.get("/v1/auth/providers")).json() == {"items": []}
        for path in (LOGIN, f"{CALLBACK}?state={uuid4()}&code=c"):
            assert (await identity.client.get(path)).status_code == 404
        assert (await identity.me(await issuer.sign(**person()))).status_code == 200


async def test_without_an_audience_no_tokens_are_taken(backends: Backends, issuer: OutsideIssuer) -> None:
    async with run_identity(backends, issuer.url, IDENTITY_OIDC_AUDIENCE="") as identity:
        for claims in ({}, {"aud": ""}, {"aud": CLIENT_ID}):
            assert (await identity.me(await issuer.sign(**person(**claims)))).status_code == 401
        async with open_browser(identity) as shop:
            assert (await Browser(shop, issuer).sign_in()).status_code == 303
