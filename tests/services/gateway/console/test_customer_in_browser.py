"""A customer's walk in a browser: register, say that the address is one's own, order, choose which mails to get, and
stop promotions from a mail's link.
"""

import email
import email.policy
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import expect

from caravan.clock import new_id
from caravan.runtime import Backends
from tests.services.gateway.console.browser_case import (
    NEEDS_CHROMIUM,
    BrowserCase,
    check_page_variants,
    open_browser,
)
from tests.services.gateway.stand_ins import listening
from tests.support.scenario import run_whole_shop
from tests.support.shop import wait_until

pytestmark = NEEDS_CHROMIUM
PASSWORD = "a long walk in Palmyra"


@pytest.fixture(scope="module")
async def shop_in_browser(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[BrowserCase]:
    async with (
        run_whole_shop(backends, tmp_path_factory.mktemp("customer")) as scenario,
        listening(scenario.shop.process.app) as url,
        open_browser(scenario, url) as browser,
    ):
        await scenario.program.create_product(stock=1000)
        yield browser


async def wait_for_mail(folder: Path, recipient: str, words: str) -> str:
    """The text of a mail to somebody that has these words."""

    async def find_mail() -> str:
        for path in folder.glob("*.eml"):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            body = mail.get_body(("plain",))
            text = str(body.get_content()) if body else ""
            if mail["To"] == recipient and words in text:
                return text
        return ""

    return str(await wait_until(find_mail, seconds=30))


def find_link(text: str, part: str) -> str:
    links: list[str] = re.findall(r"https?://\S+", text)
    return next(link for link in links if part in link)


async def test_register_order_choose_mails_and_unsubscribe(shop_in_browser: BrowserCase) -> None:
    shop, program = shop_in_browser.scenario.shop, shop_in_browser.scenario.program
    folder, address = program.data / "mail", f"{new_id()}@example.com"
    async with shop_in_browser.open_window(size="phone") as page:
        await page.goto("/")
        await page.get_by_role("link", name="New here? Register").click()
        await page.get_by_label("Name").fill("Ada Lovelace")
        await page.get_by_label("E-mail").fill(address)
        await page.get_by_label("Password").fill(PASSWORD)
        await page.get_by_role("button", name="Register").click()
        await expect(page.locator(".notice")).to_contain_text("Welcome")
        assert await check_page_variants(page, "customer-welcome") == {}

        await page.goto(find_link(await wait_for_mail(folder, address, "token="), "token="))
        assert await check_page_variants(page, "customer-verify") == {}
        await page.get_by_role("button", name="Yes, this is my address").click()
        await expect(page.get_by_role("heading", name="Thank you")).to_be_visible()

        await page.goto("/console")
        await page.get_by_role("button", name="Place a sample order").click()
        await expect(page.locator("h1 .state").first).to_have_text("delivered", timeout=20_000)
        await expect(page.locator(".address")).to_contain_text("1 Caravan Road")  # one's own is not masked
        assert await check_page_variants(page, "customer-order") == {}

        mail = await wait_for_mail(folder, address, "Total, paid")
        await page.goto(find_link(mail, "/notifications/preferences/"))
        assert await check_page_variants(page, "customer-preferences") == {}
        await page.get_by_label("Mails about products that you follow").uncheck()
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_role("heading", name="Saved")).to_be_visible()
        await expect(page.get_by_label("Mails about products that you follow")).not_to_be_checked()
        await expect(page.get_by_label("Promotional mails", exact=True)).to_be_checked()

        await send_campaign(shop_in_browser, "Tea at half price")
        mail = await wait_for_mail(folder, address, "Tea at half price, only today")
        await page.goto(find_link(mail, "/notifications/unsubscribe/"))
        assert await check_page_variants(page, "customer-unsubscribe") == {}
        await page.get_by_role("button", name="Stop these mails").click()
        await expect(page.get_by_role("heading", name="Done")).to_be_visible()

        await page.goto(find_link(mail, "/notifications/preferences/"))
        await expect(page.get_by_label("Promotional mails", exact=True)).not_to_be_checked()
    await send_campaign(shop_in_browser, "Coffee at half price")
    suppressed = await shop.get_database("notifications").fetchval(
        "SELECT count(*) FROM notification WHERE kind = 'campaign' AND recipient = $1 AND state = 'suppressed'", address
    )
    assert suppressed == 1
    assert not [
        path
        for path in folder.glob("*.eml")
        if b"Coffee" in (content := path.read_bytes()) and address.encode() in content
    ]


async def send_campaign(shop_in_browser: BrowserCase, subject: str) -> None:
    """To all customers, and wait until all of its mails have gone their way."""
    program = shop_in_browser.scenario.program
    admin = await program.authorize_operator()
    body = {"name": subject, "subject": subject, "text": f"{subject}, only today."}
    made = await program.client.post("/v1/campaigns", json=body, headers=admin)
    assert made.status_code == 201, made.text

    async def is_done() -> bool:
        campaign = (await program.client.get(f"/v1/campaigns/{made.json()['id']}", headers=admin)).json()
        return campaign["status"] == "done" and bool(campaign["runs"])

    await wait_until(is_done, seconds=30)
