"""`caravan demo`: a new customer, an order, and what happens to it."""

import asyncio
import secrets
import time
from datetime import datetime
from typing import Any

import typer

from caravan.http_client import HttpClient
from caravan.money import Money
from cli.api_client import ApiClient, encode_segment, resolve_gateway_url
from cli.import_files import run_or_exit
from cli.order_comparison import TERMINAL_STATUSES
from cli.terminal import exit_with_error, print_line, print_note

LINE_COUNT = 2
POLL_SECONDS = 0.1


def run_demo(url: str | None, token: str, seconds: float) -> None:
    if not run_or_exit(_place_demo_order(resolve_gateway_url(url), token, seconds)):
        raise typer.Exit(1)


async def _place_demo_order(url: str, token: str, seconds: float) -> bool:
    async with HttpClient(base_url=url, timeout=30) as http:
        client = ApiClient(http, secret="", report=print_note)
        email = await _register_customer(client)
        lines = await _choose_lines(client)
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
        order = (
            await client.send_request("POST", "/v1/orders", body=body, key=secrets.token_hex(16), customer=email)
        ).json()
        items = ", ".join(f"{line['quantity']} × {line['sku']}" for line in lines)
        print_line(f"202    order {order['id']}: {items}, {Money(**order['total'])}")
        status = await _watch_order(client, email, order, seconds)
        mails = (
            await client.send_request("GET", "/v1/notifications", params={"order_id": order["id"]}, customer=email)
        ).json()["items"]
        print_line(
            "mail   "
            f"{', '.join(item['kind'] for item in reversed(mails) if item['channel'] == 'email') or 'none yet'}, to "
            f"{email}"
        )
        return status in TERMINAL_STATUSES


async def _register_customer(client: ApiClient) -> str:
    email, password = f"demo-{secrets.token_hex(4)}@example.com", secrets.token_urlsafe(12)
    await client.send_request(
        "POST", "/v1/users", body={"email": email, "password": password, "name": "Demo Customer"}, customer=None
    )
    await client.sign_in(email, password)
    print_line(f"201    customer {email}, password {password}")
    return email


async def _choose_lines(client: ApiClient) -> list[dict[str, Any]]:
    """One unit of the first products that are in stock."""
    products = (await client.send_request("GET", "/v1/products", params={"limit": 50}, customer=None)).json()["items"]
    lines: list[dict[str, Any]] = []
    for product in products:
        stock = (await client.send_request("GET", f"/v1/stock/{encode_segment(product['sku'])}", customer=None)).json()
        if stock["available"] > 1:
            lines.append({"sku": product["sku"], "quantity": 1})
        if len(lines) == LINE_COUNT:
            break
    return lines or exit_with_error(
        "no product is in stock: start the shop with CARAVAN_SEED=demo, or import some (`caravan import`)"
    )


async def _watch_order(client: ApiClient, email: str, order: dict[str, Any], seconds: float) -> str:
    """Prints the order's events with the milliseconds since it was placed; its last status."""
    placed_at = datetime.fromisoformat(order["placed_at"])
    printed_count, status, deadline = 0, "created", time.monotonic() + seconds
    while status not in TERMINAL_STATUSES and time.monotonic() < deadline:
        entries = (await client.send_request("GET", f"/v1/orders/{order['id']}/history", customer=email)).json()[
            "items"
        ]
        for entry in entries[printed_count:]:
            milliseconds = (datetime.fromisoformat(entry["time"]) - placed_at).total_seconds() * 1000
            detail = _format_detail(entry["data"])
            print_line(f"{milliseconds:>6.0f} ms  {entry['status']:<15} {entry['type']:<22} {detail}".rstrip())
            status = entry["status"]
        printed_count = len(entries)
        await asyncio.sleep(POLL_SECONDS)
    return status


def _format_detail(data: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {data[name]}" for name in ("invoice_number", "carrier", "tracking_number", "reason") if data.get(name)
    )
