"""Reads what each service says of orders, over the shop's API."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from services.cli.importing import each
from services.cli.reconcile import SHIPPED, TERMINAL, Facts
from services.cli.retail.invoices import Invoice
from services.cli.shop import Refused, Shop, segment
from services.cli.terminal import print_note, show_progress

FIRST_PAUSE, LAST_PAUSE = 0.5, 5.0


async def wait_until_ended(shop: Shop, order_ids: Sequence[str], concurrency: int, seconds: float) -> None:
    """Asks in rounds for those that have not ended; says which are left when time is up."""
    left = list(order_ids)
    end = time.monotonic() + seconds
    pause = FIRST_PAUSE
    with show_progress("orders that have ended", len(left)) as advance:
        while left:
            statuses = [status async for status in each(left, lambda order_id: _status(shop, order_id), concurrency, lambda: None)]
            ended = [status in TERMINAL for status in statuses]
            for _ in range(sum(ended)):
                advance()
            left = [order_id for order_id, has_ended in zip(left, ended, strict=True) if not has_ended]
            if left and time.monotonic() > end:
                print_note(f"{len(left)} orders have not ended within {seconds:.0f} s: {dict(Counter(statuses))}")
                return
            await asyncio.sleep(pause if left else 0)
            pause = min(LAST_PAUSE, pause * 1.5)


async def _status(shop: Shop, order_id: str) -> str:
    return str((await shop.get(f"/v1/orders/{order_id}"))["status"])


async def gather_facts(shop: Shop, placed: Mapping[str, Invoice], concurrency: int) -> list[Facts]:
    left = await _left_stock(shop, placed, concurrency)

    async def look(order_id: str) -> Facts:
        return await facts_of(shop, order_id, placed[order_id], dict(left[order_id]))

    with show_progress("orders compared", len(placed)) as advance:
        return [facts async for facts in each(list(placed), look, concurrency, advance)]


async def _left_stock(shop: Shop, placed: Mapping[str, Invoice], concurrency: int) -> defaultdict[str, Counter[str]]:
    """By order, the units that the stock ledger has as shipped."""
    skus = sorted({sku for invoice in placed.values() for sku, _ in invoice.lines})
    left: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def read(sku: str) -> None:
        cursor: str | None = ""
        while cursor is not None:
            page = await _or_nothing(shop, f"/v1/stock/{segment(sku)}/movements", limit=100, **({"cursor": cursor} if cursor else {}))
            for item in page.get("items", []):
                if item["kind"] == "ship":
                    left[item["order_id"]][sku] += item["quantity"]
            cursor = page.get("next_cursor")

    with show_progress("stock ledgers read", len(skus)) as advance:
        async for _ in each(skus, read, concurrency, advance):
            pass
    return left


async def facts_of(shop: Shop, order_id: str, invoice: Invoice, left_stock: dict[str, int]) -> Facts:
    """One order, as orders, payments, the payment provider, shipping, inventory and notifications know it."""
    order = await shop.get(f"/v1/orders/{order_id}")
    payment = await _or_nothing(shop, f"/v1/payments/{order_id}")
    ledger = await _or_nothing(shop, f"/v1/payments/{order_id}/provider-ledger")
    shipment = await _or_nothing(shop, f"/v1/shipments/{order_id}")
    parcels = shipment.get("parcels", []) if shipment.get("status") in SHIPPED else []
    sent = (await shop.get("/v1/notifications", order_id=order_id, limit=100))["items"]
    provider = ledger.get("items", [])
    return Facts(
        order_id=order_id,
        name=invoice.number,
        asked=dict(invoice.lines),
        status=order["status"],
        cancelling=order["cancelling"],
        total=order["total"]["amount"],
        ordered=_by_sku(order["lines"]),
        captured=sum(capture["amount"]["amount"] for capture in payment.get("captures", [])),
        refunded=sum(refund["amount"]["amount"] for refund in payment.get("refunds", []) if refund["state"] == "done"),
        provider_captured=sum(entry["amount"]["amount"] for entry in provider if entry["outcome"] == "captured"),
        provider_refunded=sum(entry["amount"]["amount"] for entry in provider if entry["outcome"] == "refunded"),
        shipped=_by_sku(parcels),
        left_stock=left_stock,
        emails=Counter(item["kind"] for item in sent if item["channel"] == "email" and item["state"] == "sent"),
    )


async def _or_nothing(shop: Shop, path: str, **params: str | int) -> dict[str, Any]:
    """A service that has never heard of an order has no document of it."""
    try:
        found: dict[str, Any] = await shop.get(path, **params)
    except Refused as refusal:
        if refusal.status != 404:
            raise
        return {}
    return found


def _by_sku(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    units: Counter[str] = Counter()
    for line in lines:
        units[line["sku"]] += line["quantity"]
    return dict(units)
