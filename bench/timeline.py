"""`python -m bench.timeline`: how long the timeline of an order with 200 entries takes, for one client and for eight.

An order of one line has some fifty entries; each further line adds two movements of stock, so the order here has as
many lines as it takes.
"""

import asyncio
from typing import Annotated, Any

import httpx2
import typer

from bench.cache import measure_p95
from bench.ceilings import measure_empty_endpoint
from bench.shop_process import Target, start_own_shop
from caravan.clock import new_id
from caravan.settings import Settings
from cli.api_client import ApiClient, read_operator_secret

LINES = 80
MIN_ENTRIES = 200
BOUND_MS = 150.0
FULL_SPEED = 15_000
"""Requests a second that the empty endpoint of an unloaded machine answers."""
CLIENTS = (1, 8)
DELIVERY_SECONDS = 60


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 5,
) -> None:
    """Measure timelines. Exit status 1 when one client waits longer than the bound."""
    if not asyncio.run(measure_timeline(seconds)):
        raise typer.Exit(1)


async def measure_timeline(seconds: float) -> bool:
    async with start_own_shop({}, settings={"SHIPPING_PICKUP_SECONDS": "0.5"}) as target:
        async with httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
            assert target.data is not None
            api = ApiClient(http, read_operator_secret(Settings(data=target.data)), print)
            path = f"/v1/orders/{await place_long_order(api)}/timeline"
            timeline = await wait_for_entries(api, path)
            staff = await api.get_token("")
        return await report_p95(target, path, timeline, staff, seconds)


async def report_p95(target: Target, path: str, timeline: dict[str, Any], staff: str, seconds: float) -> bool:
    empty = await measure_empty_endpoint(target, max(CLIENTS), seconds)
    bound = BOUND_MS * max(1.0, FULL_SPEED / empty)
    sources = {item["source"] for item in timeline["items"]}
    print(f"{len(timeline['items'])} entries of {len(sources)} sources, missing: {timeline['partial'] or 'nothing'}")
    print(f"empty endpoint: {empty:.0f} requests a second; bound {bound:.0f} ms for one client")
    p95 = {clients: await measure_p95(target, [path], clients, seconds, staff) for clients in CLIENTS}
    for clients, milliseconds in p95.items():
        print(f"{clients} clients: p95 {milliseconds:.1f} ms")
    return p95[1] <= bound


async def place_long_order(api: ApiClient) -> str:
    skus = [f"BENCH-{number}" for number in range(LINES)]
    products = [
        {"sku": sku, "name": f"Bench mug {sku}", "category": "bench", "price": {"amount": 100, "currency": "GBP"}}
        for sku in skus
    ]
    await api.send_request("PUT", "/v1/products", body={"products": products})
    for sku in skus:
        body = {"kind": "receive", "quantity": 10, "reason": "bench"}
        await api.send_request("POST", f"/v1/stock/{sku}/movements", body=body)
    email, password = f"{new_id()}@example.com", "a long enough password"
    user = {"email": email, "password": password, "name": "Bench Customer"}
    await api.send_request("POST", "/v1/users", body=user, customer=None)
    await api.sign_in(email, password)
    order = {
        "lines": [{"sku": sku, "quantity": 1} for sku in skus],
        "shipping_address": {
            "name": "Bench Customer",
            "street": "1 Measure Street",
            "city": "London",
            "postcode": "N1 1AA",
            "country": "GB",
        },
        "payment": {"method": "card", "token": "tok_flaky"},
    }
    placed = await api.send_request("POST", "/v1/orders", body=order, key=str(new_id()), customer=email)
    return str(placed.json()["id"])


async def wait_for_entries(api: ApiClient, path: str) -> dict[str, Any]:
    """The timeline once the order is delivered and nothing more happens to it."""
    count = 0
    async with asyncio.timeout(DELIVERY_SECONDS):
        while True:
            await asyncio.sleep(1)  # a new order is not on the read side yet
            timeline: dict[str, Any] = await api.fetch_json(path)
            is_delivered = any(item["kind"] == "OrderDelivered" for item in timeline["items"])
            if is_delivered and len(timeline["items"]) == count >= MIN_ENTRIES:
                return timeline
            count = len(timeline["items"])


if __name__ == "__main__":
    typer.run(main)
