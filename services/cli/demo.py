"""`caravan demo`: a new customer, an order, and what happens to it."""

import asyncio
import secrets
import time
from datetime import datetime
from typing import Any

import httpx2
import typer

from caravan.money import Money
from services.cli.importing import run
from services.cli.reconcile import TERMINAL
from services.cli.shop import Shop, gateway_url, segment
from services.cli.terminal import fail, print_line, print_note

LINES = 2
POLL_SECONDS = 0.1


def demo(url: str | None, token: str, seconds: float) -> None:
    if not run(_demo(gateway_url(url), token, seconds)):
        raise typer.Exit(1)


async def _demo(url: str, token: str, seconds: float) -> bool:
    async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
        shop = Shop(http, secret="", tell=print_note)
        email = await _register(shop)
        lines = await _choose(shop)
        body = {
            "lines": lines,
            "shipping_address": {
                "name": "Demo Customer",
                "street": "1 Caravan Road",
                "city": "London",
                "postcode": "N1 1AA",
                "country": "GB",
            },
            "payment": {"method": "card", "token": token},
        }
        placed = (await shop.call("POST", "/v1/orders", body=body, key=secrets.token_hex(16), customer=email)).json()
        wanted = ", ".join(f"{line['quantity']} × {line['sku']}" for line in lines)
        print_line(f"202    order {placed['id']}: {wanted}, {Money(**placed['total'])}")
        status = await _watch(shop, email, placed, seconds)
        mails = (await shop.call("GET", "/v1/notifications", params={"order_id": placed["id"]}, customer=email)).json()["items"]
        print_line(f"mail   {', '.join(item['kind'] for item in reversed(mails) if item['channel'] == 'email') or 'none yet'}, to {email}")
        return status in TERMINAL


async def _register(shop: Shop) -> str:
    email, password = f"demo-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12)
    await shop.call("POST", "/v1/users", body={"email": email, "password": password, "name": "Demo Customer"}, customer=None)
    await shop.sign_in(email, password)
    print_line(f"201    customer {email}, password {password}")
    return email


async def _choose(shop: Shop) -> list[dict[str, Any]]:
    """One unit of the first products that are in stock."""
    products = (await shop.call("GET", "/v1/products", params={"limit": 50}, customer=None)).json()["items"]
    chosen: list[dict[str, Any]] = []
    for product in products:
        stock = (await shop.call("GET", f"/v1/stock/{segment(product['sku'])}", customer=None)).json()
        if stock["available"] > 1:
            chosen.append({"sku": product["sku"], "quantity": 1})
        if len(chosen) == LINES:
            break
    return chosen or fail("no product is in stock: start the shop with CARAVAN_SEED=demo, or import some (`caravan import`)")


async def _watch(shop: Shop, email: str, placed: dict[str, Any], seconds: float) -> str:
    """Prints the order's events with the milliseconds since it was placed; its last status."""
    began = datetime.fromisoformat(placed["placed_at"])
    seen, status, end = 0, "created", time.monotonic() + seconds
    while status not in TERMINAL and time.monotonic() < end:
        entries = (await shop.call("GET", f"/v1/orders/{placed['id']}/history", customer=email)).json()["items"]
        for entry in entries[seen:]:
            after = (datetime.fromisoformat(entry["time"]) - began).total_seconds() * 1000
            print_line(f"{after:>6.0f} ms  {entry['status']:<15} {entry['type']:<22} {_detail(entry['data'])}".rstrip())
            status = entry["status"]
        seen = len(entries)
        await asyncio.sleep(POLL_SECONDS)
    return status


def _detail(facts: dict[str, Any]) -> str:
    return "  ".join(f"{name} {facts[name]}" for name in ("invoice_number", "carrier", "tracking_number", "reason") if facts.get(name))
