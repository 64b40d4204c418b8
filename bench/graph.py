"""`python -m bench.graph`: GraphQL with and without the shared cache, for one client and for eight."""

import asyncio
import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import httpx2
import typer

from bench.cache import make_products, measure_p95
from bench.ceilings import measure_empty_endpoint
from bench.shop_process import Target, start_own_shop
from caravan import settings
from caravan.clock import new_id
from cli.api_client import ApiClient, read_operator_secret

PRODUCTS = "{ products(first: 20) { nodes { sku name price { amount currency } stock { available } } } }"
SERVICES = """{
  products(first: 10) { nodes { sku name stock { available } } }
  orders(first: 10) { nodes { id status } }
  payments(first: 10) { nodes { orderId status } }
  notifications(first: 10) { nodes { id state } }
  dashboard { day }
}"""
HIT_MS = 5.0
MISS_MS = {1: 50.0, 8: 100.0}
FULL_SPEED = 15_000
"""Requests a second that the empty endpoint of an unloaded machine answers."""


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 5,
) -> None:
    """Measure answers of the graph. Exit status 1 when one takes longer than its bound."""
    if not asyncio.run(measure_graph(seconds)):
        raise typer.Exit(1)


async def measure_graph(seconds: float) -> bool:
    async with AsyncExitStack() as stack:
        kept, computed = [
            await stack.enter_async_context(start_own_shop({}, settings={"CARAVAN_CACHE": value}))
            for value in ("true", "false")
        ]
        for target in (kept, computed):
            await make_products(target)
        staff = await make_admin(computed)
        await check_answer(computed, SERVICES, staff)
        empty = await measure_empty_endpoint(kept, max(MISS_MS), seconds)
        stretch = max(1.0, FULL_SPEED / empty)
        print(f"empty endpoint: {empty:.0f} requests a second; bounds are multiplied by {stretch:.1f}")
        is_within_bounds = True
        for clients, miss_ms in MISS_MS.items():
            for label, target, query, token, bound in (
                ("products, from the cache", kept, PRODUCTS, None, HIT_MS if clients == 1 else miss_ms),
                ("products, computed", computed, PRODUCTS, None, miss_ms),
                ("six services, computed", computed, SERVICES, staff, miss_ms),
            ):
                p95 = await measure_p95(target, [f"/graphql?query={quote(query)}"], clients, seconds, token)
                is_within_bounds &= p95 <= bound * stretch
                print(f"{clients} clients, {label}: p95 {p95:.1f} ms, bound {bound * stretch:.0f} ms")
    return is_within_bounds


async def make_admin(target: Target) -> str:
    """An access token of a user who is an admin: notifications are read by users, no client may."""
    email, password = f"{new_id()}@bench.example", secrets.token_urlsafe(12)
    async with httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
        api = ApiClient(http, read_operator_secret(settings.Settings(data=target.data or Path())), print)
        user = {"email": email, "password": password, "name": "Bench Admin"}
        made = (await api.send_request("POST", "/v1/users", body=user, customer=None)).json()
        await api.send_request("PATCH", f"/v1/users/{made['id']}", body={"role": "admin"})
        await api.sign_in(email, password)
        return await api.get_token(email)


async def check_answer(target: Target, query: str, token: str) -> None:
    """A field that is refused costs less than one that is answered."""
    async with httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
        answer = await http.get("/graphql", params={"query": query}, headers={"authorization": f"Bearer {token}"})
    if errors := answer.json().get("errors"):
        raise SystemExit(f"the graph did not answer: {errors}")


if __name__ == "__main__":
    typer.run(main)
