"""What the pages of system, products and audit show of the shop, and how they show that something is missing."""

import re
from typing import Any

import pytest

from caravan.clock import new_id
from services.gateway.console.views import system
from tests.services.gateway.console.console_case import ConsoleCase

MARKUP = "<script>alert('mug')</script>"
ESCAPED = "&lt;script&gt;alert(&#39;mug&#39;)&lt;/script&gt;"


async def create_product(console: ConsoleCase, **fields: Any) -> str:
    sku, admin = f"SKU-{new_id().hex[:12]}", console.shop.issue_headers("admin")
    category = f"tents-{new_id().hex[:8]}"
    client = console.shop.client
    assert (await client.put(f"/v1/categories/{category}", json={"attributes": {}}, headers=admin)).is_success
    body = {"sku": sku, "name": "Mug", "category": category, "price": {"amount": 1250, "currency": "GBP"}, **fields}
    answer = await client.post("/v1/products", json=body, headers=admin)
    assert answer.status_code == 201, answer.text
    return sku


async def move_stock(console: ConsoleCase, sku: str, kind: str, quantity: int, reason: str = "") -> None:
    answer = await console.shop.client.post(
        f"/v1/stock/{sku}/movements",
        json={"kind": kind, "quantity": quantity, "reason": reason},
        headers={**console.shop.issue_headers("staff"), "idempotency-key": str(new_id())},
    )
    assert answer.status_code == 201, answer.text


async def read_page(console: ConsoleCase, path: str, status: int = 200) -> str:
    answer = await console.get(console.create_session("admin"), path)
    assert answer.status_code == status, answer.text
    return answer.text


async def test_the_system_page_shows_who_is_up_and_who_is_down(console: ConsoleCase) -> None:
    text = await read_page(console, "/console/system")
    assert 'class="box up"' in text and 'class="box down"' in text, "payments does not run here"
    assert re.search(r"\d+ down, \d+ degraded", text)
    assert "<svg" in text and "style=" not in text


async def test_the_choice_of_channels_is_in_the_address(console: ConsoleCase) -> None:
    everything = await read_page(console, "/console/system?channels=all")
    assert (
        "inventory.reserve-stock" in everything and '?channels=all#channels-heading" aria-current="true"' in everything
    )
    assert (await read_page(console, "/console/system?channels=nonsense")).count('aria-current="true"') == 1


def test_a_process_stands_once_with_all_its_services() -> None:
    instance = {"id": "a:1", "uptime_seconds": 7500.0}
    services = [{"name": name, "instances": [instance]} for name in ("orders", "catalog")]
    (process,) = system.build_processes(services)
    assert (process["services"], process["uptime"]) == (["orders", "catalog"], "2 h 5 min")


@pytest.mark.parametrize(
    ("rate", "text"), [(None, "…"), (0.0, "0"), (0.04, "0"), (0.26, "0.3"), (9.94, "9.9"), (1234.5, "1,234")]
)
def test_a_rate_has_the_digits_that_say_something(rate: float | None, text: str) -> None:
    assert system.format_rate(rate) == text


async def test_products_stand_with_their_stock_and_foreign_text_is_escaped(console: ConsoleCase) -> None:
    sku = await create_product(console, name=f"Mug {MARKUP}"[:100])
    await move_stock(console, sku, "receive", 3)
    text = await read_page(console, f"/console/products?search={sku}")
    assert MARKUP not in text
    page = await read_page(console, f"/console/products/{sku}")
    assert MARKUP not in page and ESCAPED in page


async def test_the_ledger_of_a_product_and_its_account(console: ConsoleCase) -> None:
    sku = await create_product(console)
    assert "Nothing of this product was ever received" in await read_page(console, f"/console/products/{sku}")
    await move_stock(console, sku, "receive", 12, f"delivery {MARKUP}")
    await move_stock(console, sku, "adjust", -2, "broken")
    text = await read_page(console, f"/console/products/{sku}")
    assert "<b>10</b> available" in text and "The account adds up" in text
    assert "received" in text and "-2" in text and ESCAPED in text and MARKUP not in text


async def test_what_is_not_there_is_said_in_words(console: ConsoleCase) -> None:
    assert "NOPE" in await read_page(console, "/console/products/NOPE", 404)
    assert "Nothing fits this search" in await read_page(console, "/console/products?search=zzzzqqqq")
    assert "Show all products" in await read_page(console, "/console/products?cursor=broken")


async def test_audit_says_which_service_is_missing(console: ConsoleCase) -> None:
    """Analytics does not run in this process."""
    answer = await console.get(console.create_session("admin"), "/console/audit")
    assert answer.status_code in (503, 504), answer.text
    assert "unavailable" in answer.text or "No answer" in answer.text
