"""Customers who look and order all the time, and what they were not given."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.support.program import TERMINAL, Program
from tests.support.shop import wait_until


@dataclass
class Load:
    accepted: list[str] = field(default_factory=list)
    answered: int = 0
    failed: list[str] = field(default_factory=list)


@asynccontextmanager
async def customers(shop: Program, each_second: float = 4) -> AsyncIterator[Load]:
    """On leaving: all orders were delivered, and there is none that nobody placed."""
    load, who, sku = Load(), await shop.register_customer(), await shop.create_product(stock=100_000)
    going = True

    async def ask(what: str, request: Any) -> httpx2.Response | None:
        try:
            answer: httpx2.Response = await request
        except httpx2.HTTPError as error:
            load.failed.append(f"{time.strftime('%X')} {what}: {error!r}")
            return None
        load.answered += 1
        if answer.status_code >= 400:
            load.failed.append(f"{time.strftime('%X')} {what}: {answer.status_code} {answer.text[:200]}")
        return answer

    async def buy() -> None:
        while going:
            answer = await ask("POST /v1/orders", shop.place_order(who, sku))
            if answer is not None and answer.status_code == 202:
                load.accepted.append(answer.json()["id"])
            await asyncio.sleep(1 / each_second)

    async def read_pages() -> None:
        while going:
            for path in (f"/v1/products/{sku}", "/v1/products?limit=20", f"/v1/stock/{sku}", "/v1/orders?limit=5"):
                await ask(f"GET {path}", shop.client.get(path, headers=who))
            await asyncio.sleep(1 / each_second)

    tasks = [asyncio.create_task(buy()), asyncio.create_task(read_pages())]
    try:
        yield load
    finally:
        going = False
        await asyncio.gather(*tasks)

    async def all_ended() -> bool:
        states = [(await shop.get_order(who, order_id))["status"] for order_id in load.accepted]
        return all(state in TERMINAL for state in states)

    await wait_until(all_ended, seconds=120, every=2)
    found = await orders_of(shop, who)
    assert Counter(found.values()) == {"delivered": len(found)}
    assert set(load.accepted) <= set(found)
    assert len(found) <= len(load.accepted) + len(load.failed), (
        "only an order whose answer was lost may be there without one"
    )
    print(f"{load.answered} answers, {len(load.accepted)} orders, all delivered, none twice; failed: {load.failed}")


async def orders_of(shop: Program, who: dict[str, str]) -> dict[str, str]:
    """The status of every order of a customer."""
    found: dict[str, str] = {}
    cursor: str | None = ""
    while cursor is not None:
        answer = await shop.client.get(
            "/v1/orders", params={"limit": 100, **({"cursor": cursor} if cursor else {})}, headers=who
        )
        assert answer.status_code == 200, answer.text
        found |= {order["id"]: order["status"] for order in answer.json()["items"]}
        cursor = answer.json()["next_cursor"]
    return found
