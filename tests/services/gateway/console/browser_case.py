"""The whole shop behind a port, and Debian's Chromium in front of it."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from services.identity.client import ENSURE_ADMIN, EnsureAdminRequest
from tests.support.program import ADMIN
from tests.support.scenario import ShopScenario

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
LEFT_OUT = (
    "no Chromium on this machine (Debian: apt-get install chromium): the console's pages are not tried in a browser"
)
SCREENSHOTS = Path(__file__).parents[4] / "build" / "console"
"""Kept as an artefact of CI."""
SIZES = {"desk": (1280, 860), "phone": (390, 844)}
Theme = Literal["light", "dark"]
SERIOUS = {"serious", "critical"}


@dataclass
class BrowserCase:
    scenario: ShopScenario
    url: str
    browser: Browser

    @asynccontextmanager
    async def open_window(self, theme: Theme = "light", size: str = "desk", **options: Any) -> AsyncIterator[Page]:
        """A window of somebody who is not signed in. An error of a script or of the policy ends the test."""
        width, height = SIZES[size]
        context = await self.browser.new_context(
            base_url=self.url, viewport={"width": width, "height": height}, color_scheme=theme, **options
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
async def open_browser(scenario: ShopScenario, url: str) -> AsyncIterator[BrowserCase]:
    admin = EnsureAdminRequest(email=ADMIN[0], password=ADMIN[1])
    await scenario.shop.get_context("gateway").call(ENSURE_ADMIN, admin)
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        try:
            yield BrowserCase(scenario, url, browser)
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
