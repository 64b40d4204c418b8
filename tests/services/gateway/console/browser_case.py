"""The whole shop behind a port, and Debian's Chromium in front of it."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from services.identity.client import ENSURE_ADMIN, EnsureAdminRequest
from tests.support.program import ADMIN
from tests.support.scenario import ShopScenario
from tests.support.shop import URL

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LEFT_OUT = pytest.mark.skipif(
    CHROMIUM is None,
    reason="no Chromium on this machine (make chromium): the console's pages are not tried in a browser",
)
NEEDS_CHROMIUM = [pytest.mark.slow, pytest.mark.browser, LEFT_OUT]
"""For tests that `make test-browser` runs, in CI too."""
SCREENSHOTS = Path(__file__).parents[4] / "build" / "console"
"""Kept as an artefact of CI."""
SIZES = {"desk": (1280, 860), "phone": (390, 844)}
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
SERIOUS = {"serious", "critical"}


@dataclass
class BrowserCase:
    scenario: ShopScenario
    browser: Browser

    @asynccontextmanager
    async def open_window(self, theme: Theme = "light", size: str = "desk", **options: Any) -> AsyncIterator[Page]:
        """A window of somebody who is not signed in. An error of a script or of the policy ends the test."""
        width, height = SIZES[size]
        context = await self.browser.new_context(
            base_url=URL, viewport={"width": width, "height": height}, color_scheme=theme, **options
        )
        errors: list[str] = []
        page = await context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
        try:
            yield page
            assert errors == []
        finally:
            await context.close()

    async def sign_in(self, page: Page, email: str = ADMIN[0], password: str = ADMIN[1]) -> BrowserContext:
        await page.goto("/")
        await page.get_by_label("E-mail").fill(email)
        await page.get_by_label("Password").fill(password)
        await page.get_by_role("button", name="Sign in").click()
        await page.get_by_role("navigation", name="Console").wait_for()
        return page.context


@asynccontextmanager
async def open_browser(scenario: ShopScenario, address: str) -> AsyncIterator[BrowserCase]:
    """A browser for which the shop's URL, which is in its mails and redirects, leads to the port at `address`."""
    admin = EnsureAdminRequest(email=ADMIN[0], password=ADMIN[1])
    await scenario.shop.get_context("gateway").call(ENSURE_ADMIN, admin)
    options = [f"--host-resolver-rules=MAP {urlsplit(URL).netloc} {urlsplit(address).netloc}"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield BrowserCase(scenario, browser)
        finally:
            await browser.close()


async def find_serious_faults(page: Page) -> list[str]:
    """What axe calls serious or worse: the rule, and where."""
    found = await Axe().run(page)
    return [
        f"{violation['id']}: {violation['nodes'][0]['html'][:200]}"
        for violation in found.response["violations"]
        if violation["impact"] in SERIOUS
    ]


async def measure_overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    width: int = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


async def save_screenshot(page: Page, name: str) -> None:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True, animations="disabled")


async def check_page(page: Page, name: str) -> list[str]:
    """As it is shown now, with a screenshot."""
    await save_screenshot(page, name)
    overflow = await measure_overflow(page)
    return [*await find_serious_faults(page), *([f"{overflow} px too wide"] if overflow > 0 else [])]


async def check_page_variants(page: Page, name: str) -> dict[str, list[str]]:
    """In both themes, on a desk and on a phone: what is wrong, by the name of the screenshot. Ends as it began."""
    before = page.viewport_size
    faults: dict[str, list[str]] = {}
    for theme in THEMES:
        await page.emulate_media(color_scheme=theme)
        for size, (width, height) in SIZES.items():
            await page.set_viewport_size({"width": width, "height": height})
            faults[f"{name}-{theme}-{size}"] = await check_page(page, f"{name}-{theme}-{size}")
    await page.emulate_media(color_scheme="light")
    if before:
        await page.set_viewport_size(before)
    return {name: found for name, found in faults.items() if found}
