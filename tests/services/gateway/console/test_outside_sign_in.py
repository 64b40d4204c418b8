"""Signing in to the console at an issuer outside the shop, a process of its own, in a browser from end to end."""

import os
from collections.abc import AsyncIterator
from unittest.mock import patch

import orjson
import pytest
from playwright.async_api import expect

from caravan.runtime import Backends
from tests.services.gateway.console.browser_case import NEEDS_CHROMIUM, BrowserCase, check_page_variants, open_browser
from tests.services.gateway.stand_ins import listening
from tests.services.identity.conftest import CHEAP
from tests.services.identity.outside_issuer import ROLES, OutsideIssuer, person, run_issuer
from tests.support.openid_provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET
from tests.support.scenario import run_whole_shop

pytestmark = NEEDS_CHROMIUM
LABEL = "Sign in with Corp"


@pytest.fixture(scope="module")
async def issuer() -> AsyncIterator[OutsideIssuer]:
    async with run_issuer() as running:
        yield running


@pytest.fixture(scope="module")
async def shop_in_browser(
    backends: Backends, issuer: OutsideIssuer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[BrowserCase]:
    settings = {
        **CHEAP,
        "IDENTITY_OIDC_ISSUER": issuer.url,
        "IDENTITY_OIDC_AUDIENCE": AUDIENCE,
        "IDENTITY_OIDC_CLIENT_ID": CLIENT_ID,
        "IDENTITY_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "IDENTITY_OIDC_LABEL": "Corp",
        "IDENTITY_OIDC_ROLES": orjson.dumps(ROLES).decode(),
    }
    with patch.dict(os.environ, settings):
        async with (
            run_whole_shop(backends, tmp_path_factory.mktemp("outside")) as scenario,
            listening(scenario.shop.process.app) as url,
            open_browser(scenario, url) as browser,
        ):
            yield browser


async def test_a_colleague_signs_in_where_the_company_does_and_out_again(
    shop_in_browser: BrowserCase, issuer: OutsideIssuer
) -> None:
    await issuer.steer("set", user=person(name="Una Corp", groups=["shop-admins"]))
    async with shop_in_browser.open_window() as page:
        await page.goto("/console/jobs?state=failed")
        assert await check_page_variants(page, "sign-in-outside") == {}
        await page.get_by_role("link", name=LABEL).click()
        await expect(page.get_by_role("navigation", name="Console")).to_be_visible()
        assert page.url.endswith("/console/jobs?state=failed"), "where the link of a colleague led"
        await expect(page.locator(".who")).to_have_text("Una Corp")
        await expect(page.locator(".role")).to_have_text("admin")
        await page.reload()
        await expect(page.locator(".who")).to_have_text("Una Corp")
        cookies = {cookie.get("name"): cookie for cookie in await page.context.cookies()}
        assert "caravan-sign-in" not in cookies and cookies["caravan-console"].get("httpOnly")

        await page.get_by_role("button", name="Sign out").click()
        assert await check_page_variants(page, "signed-out-outside") == {}
        await page.goto("/console/jobs")
        await expect(page.get_by_role("link", name=LABEL)).to_be_visible()


async def test_the_groups_decide_what_somebody_may_open(shop_in_browser: BrowserCase, issuer: OutsideIssuer) -> None:
    await issuer.steer("set", user=person(name="Sam Staff", groups=["shop-staff"]))
    async with shop_in_browser.open_window() as page:
        await page.goto("/console")
        await page.get_by_role("link", name=LABEL).click()
        await expect(page.locator(".role")).to_have_text("staff")
        await expect(page.get_by_role("link", name="Campaigns")).to_be_visible()
        await page.goto("/console/users")
        await expect(page.get_by_role("heading", name="Not for your role")).to_be_visible()


async def test_what_the_issuer_signs_wrongly_opens_nothing(shop_in_browser: BrowserCase, issuer: OutsideIssuer) -> None:
    await issuer.steer("set", user=person(groups=["shop-admins"]), id_token={"nonce": "another"})
    async with shop_in_browser.open_window() as page:
        await page.goto("/console")
        await page.get_by_role("link", name=LABEL).click()
        assert await check_page_variants(page, "sign-in-refused") == {}
        await page.goto("/console")
        await expect(page.get_by_role("link", name=LABEL)).to_be_visible()
    await issuer.restore()
