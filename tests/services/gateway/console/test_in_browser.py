"""The console in a browser: the walk from the sign-in to a redriven message, and every page in both themes and on a
phone.
"""

import gzip
import itertools
from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.async_api import Page, Response, expect

from caravan.errors import MessageRejected
from caravan.runtime import Backends
from services.gateway.console.registry import PAGES
from services.shipping import use_cases as shipping
from tests.services.gateway.console.browser_case import (
    NEEDS_CHROMIUM,
    SIZES,
    THEMES,
    BrowserCase,
    Theme,
    check_page,
    check_page_variants,
    open_browser,
)
from tests.services.gateway.stand_ins import listening
from tests.support.scenario import run_whole_shop

pytestmark = NEEDS_CHROMIUM
FIRST_PAGE_BYTES = 150_000
POISON = 'the carrier\'s account <script>alert("closed")</script> is closed'


@pytest.fixture(scope="module")
async def shop_in_browser(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserCase]:
    async with (
        run_whole_shop(backends, tmp_path_factory.mktemp("console")) as scenario,
        listening(scenario.shop.process.app) as url,
        open_browser(scenario, url) as browser,
    ):
        await scenario.program.create_product(stock=1000)
        yield browser


async def place_sample_order(page: Page) -> str:
    await page.goto("/console/orders")
    await page.get_by_role("button", name="Place a sample order").click()
    await page.get_by_role("heading", name="Timeline").wait_for()
    return page.url.rpartition("/")[2]


async def expect_state(page: Page, state: str) -> None:
    await expect(page.locator("h1 .state").first).to_have_text(state, timeout=20_000)


async def test_sign_in_order_watch_and_redrive_a_poison_message(shop_in_browser: BrowserCase) -> None:
    async with shop_in_browser.open_window() as page:
        await shop_in_browser.sign_in(page)
        await place_sample_order(page)
        await expect_state(page, "delivered")  # by its stream of events: nobody loads the page anew
        await expect(page.locator("#timeline")).to_contain_text("Order delivered")
        await expect(page.locator(".address")).to_have_text("S•••, 1•••, L•••, N•••, GB")
        await page.get_by_role("button", name="Show the address").click()
        await expect(page.locator(".address")).to_contain_text("1 Caravan Road")

        async def refuse(*_: Any) -> None:
            raise MessageRejected(POISON)

        with patch.object(shipping, "accept_commands", refuse):
            order_id = await place_sample_order(page)
            await expect_state(page, "paid")
            await page.goto("/console/failures")
            await expect(page.get_by_role("link", name=POISON)).to_be_visible(timeout=20_000)
        clicks = [
            page.get_by_role("link", name="Failures", exact=True),
            page.get_by_role("link", name=POISON),
            page.get_by_role("button", name="Redrive"),
        ]
        await page.goto(f"/console/orders/{order_id}")
        for target in clicks:
            await target.click()
        await expect(page.locator(".notice")).to_have_text("1 handed to their consumers again.")
        await expect(page.get_by_role("heading", name="No failures")).to_be_visible()

        await page.goto(f"/console/orders/{order_id}")
        await expect_state(page, "delivered")
        await expect(page.locator("#timeline .what", has_text="Shipment requested")).to_have_count(1)
    parcels = await shop_in_browser.scenario.shop.get_database("shipping").fetchval(
        "SELECT count(*) FROM shipment WHERE order_id = $1", UUID(order_id)
    )
    assert parcels == 1


@pytest.fixture(scope="module")
async def pages(shop_in_browser: BrowserCase) -> dict[str, str]:
    """The paths of all pages, filled; the cause stays for as long as they are looked at."""

    async def refuse(*_: Any) -> None:
        raise MessageRejected(POISON)

    with patch.object(shipping, "accept_commands", refuse):
        async with shop_in_browser.open_window() as page:
            await shop_in_browser.sign_in(page)
            order_id = await place_sample_order(page)
            await page.goto("/console/failures")
            await page.get_by_role("link", name=POISON).click(timeout=20_000)
            cause = page.url.rpartition("/")[2]
            await page.get_by_role("main").get_by_role("link", name="shipping.ShipOrder").click()
            failure = page.url.rpartition("/")[2]
            product = await find_first_link(page, "/console/products")
            user = await find_first_link(page, "/console/users")
            campaign = await write_campaign(page)
    return {
        **{page.name: page.path for page in PAGES if page.section},
        "orders-none": "/console/orders?status=refunded",
        "orders-search": "/console/orders?q=nonsense",
        "order": f"/console/orders/{order_id}",
        "order-messages": f"/console/orders/{order_id}?show=messages",
        "cause": f"/console/failures/{cause}",
        "failure": f"/console/failure/{failure}",
        "not-here": "/console/orders/0",
        "system": "/console/system",
        "system-all": "/console/system?channels=all",
        "products": "/console/products",
        "products-none": "/console/products?search=nonsense",
        "product": product,
        "reports": "/console/reports",
        "reports-hours": "/console/reports?by=hour",
        "reports-products": "/console/reports?by=product",
        "reports-none": "/console/reports?from=2020-01-01&to=2020-01-31",
        "users": "/console/users",
        "user": user,
        "campaigns": "/console/campaigns",
        "campaign": campaign,
        "jobs": "/console/jobs",
        "jobs-none": "/console/jobs?state=failed",
        "audit": "/console/audit",
        "audit-none": "/console/audit?actor=nobody",
    }


@pytest.mark.parametrize(("theme", "size"), itertools.product(THEMES, SIZES))
async def test_every_page_is_accessible_and_fits(
    shop_in_browser: BrowserCase, pages: dict[str, str], theme: Theme, size: str
) -> None:
    faults: dict[str, Any] = {}
    async with shop_in_browser.open_window(theme, size) as page:
        for outside in ("sign-in", "register"):
            await page.goto(f"/console/{outside}")
            faults[outside] = await check_page(page, f"{outside}-{theme}-{size}")
        await shop_in_browser.sign_in(page)
        for name, path in pages.items():
            answer = await page.goto(path)
            faults[name] = await check_page(page, f"{name}-{theme}-{size}")
            if answer is None or answer.status != (422 if name == "not-here" else 200):
                faults[name].append(f"answered {answer and answer.status}")
    assert {name: found for name, found in faults.items() if found} == {}


async def find_first_link(page: Page, path: str) -> str:
    """Of a list: where its first line leads."""
    await page.goto(path)
    return await page.locator("tbody a").first.get_attribute("href") or ""


async def write_campaign(page: Page) -> str:
    """To everybody, now: the path of its page."""
    await page.goto("/console/campaigns")
    await page.get_by_text("New campaign…").click()
    await page.get_by_label("Name, for you").fill("Winter tea")
    await page.get_by_label("Subject").fill("Tea at half price")
    await page.get_by_label("Text; an empty line").fill("Only this week.\n\nCome and see.")
    await page.get_by_role("button", name="Write the campaign").click()
    await page.get_by_role("heading", name="Winter tea").wait_for()
    return urlsplit(page.url).path


async def test_a_phone_shows_where_one_is_and_what_is_newest(
    shop_in_browser: BrowserCase, pages: dict[str, str]
) -> None:
    async with shop_in_browser.open_window(size="phone") as page:
        await shop_in_browser.sign_in(page)
        await page.goto(pages["audit"])
        await expect(page.get_by_role("link", name="Audit", exact=True)).to_be_in_viewport(ratio=1)
        await page.goto(pages["reports"])
        today = await page.locator(".plot rect").last.bounding_box()
        assert today and today["x"] + today["width"] <= SIZES["phone"][0], "nobody scrolls to the newest bar"
        await page.goto(pages["jobs"])
        box = await page.locator("#jobs summary").first.bounding_box()
        assert box and box["width"] >= 150, "a job's name is not broken into syllables"


async def test_the_form_of_a_report_says_its_period(shop_in_browser: BrowserCase, pages: dict[str, str]) -> None:
    async with shop_in_browser.open_window() as page:
        await shop_in_browser.sign_in(page)
        await page.goto(pages["reports"])
        first, last = [await page.get_by_label(label).input_value() for label in ("From", "To")]
        assert first and last
        await expect(page.get_by_text(f"{first} to {last}")).to_be_visible()


async def test_a_customer_is_told_what_is_not_for_customers(shop_in_browser: BrowserCase) -> None:
    email, password = "ada@example.com", "a long walk in Palmyra"
    body = {"email": email, "password": password, "name": "Ada Lovelace"}
    assert (await shop_in_browser.scenario.program.client.post("/v1/users", json=body)).status_code == 201
    async with shop_in_browser.open_window() as page:
        await shop_in_browser.sign_in(page, email, password)
        await expect(page.get_by_role("link", name="Failures")).to_have_count(0)
        await page.goto("/console/failures")
        await expect(page.get_by_role("heading", name="Not for your role")).to_be_visible()
        assert await check_page_variants(page, "forbidden") == {}


async def test_the_keyboard_reaches_everything_and_the_first_stop_skips_the_navigation(
    shop_in_browser: BrowserCase, pages: dict[str, str]
) -> None:
    async with shop_in_browser.open_window() as page:
        await shop_in_browser.sign_in(page)
        await page.goto(pages["orders"])
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.querySelector('main').contains(document.activeElement)")
        await page.get_by_role("heading", name="Orders").click()
        await page.keyboard.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()


async def test_without_its_script_the_console_works(shop_in_browser: BrowserCase) -> None:
    async with shop_in_browser.open_window(java_script_enabled=False) as page:
        await shop_in_browser.sign_in(page)
        await place_sample_order(page)
        await expect(page.get_by_text("The sample order is placed.")).to_be_visible()


async def test_the_first_page_is_small(shop_in_browser: BrowserCase, pages: dict[str, str]) -> None:
    """Compressed, with all that it loads."""
    async with shop_in_browser.open_window() as page:
        context = await shop_in_browser.sign_in(page)
        # A tab of its own: in the first one the page that the sign-in led to may still be loading.
        first_page = await context.new_page()
        answers: list[Response] = []

        def keep_answer(answer: Response) -> None:
            answers.append(answer)

        first_page.on("response", keep_answer)
        await first_page.goto(pages["orders"], wait_until="networkidle")
        assert len(answers) > 1
        assert sum([len(gzip.compress(await answer.body())) for answer in answers]) <= FIRST_PAGE_BYTES


@pytest.mark.parametrize("theme", THEMES)
async def test_a_theme_is_chosen_by_a_button_and_stays(shop_in_browser: BrowserCase, theme: Theme) -> None:
    other = "dark" if theme == "light" else "light"
    async with shop_in_browser.open_window(theme) as page:
        await shop_in_browser.sign_in(page)
        await page.get_by_role("button", name=f"Use the {other} theme").click()
        await page.reload()
        assert await page.evaluate("document.documentElement.dataset.theme") == other


async def test_the_button_follows_a_machine_that_changes_its_theme(shop_in_browser: BrowserCase) -> None:
    async with shop_in_browser.open_window("light") as page:
        await shop_in_browser.sign_in(page)
        await expect(page.get_by_role("button", name="Use the dark theme")).to_be_visible()
        await page.emulate_media(color_scheme="dark")
        await expect(page.get_by_role("button", name="Use the light theme")).to_be_visible()
