"""Collects what each service's API says of a set of orders, for the reconciliation in `order_comparison.py`."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from caravan.concurrency import map_concurrently
from cli.api_client import ApiClient, ApiError, encode_segment
from cli.order_comparison import SHIPPED_STATUSES, TERMINAL_STATUSES, OrderAudit
from cli.retail.invoices import Invoice
from cli.terminal import print_note, show_progress

FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 5.0


async def wait_until_final(client: ApiClient, order_ids: Sequence[str], concurrency: int, seconds: float) -> None:
    """Asks in rounds for those that have not ended; says which are left when time is up."""
    open_ids = list(order_ids)
    deadline = time.monotonic() + seconds
    pause = FIRST_PAUSE_SECONDS
    with show_progress("orders that have ended", len(open_ids)) as advance:
        while open_ids:
            statuses = await map_concurrently(partial(_fetch_status, client), open_ids, concurrency)
            is_final = [status in TERMINAL_STATUSES for status in statuses]
            for _ in range(sum(is_final)):
                advance()
            open_ids = [order_id for order_id, has_ended in zip(open_ids, is_final, strict=True) if not has_ended]
            if open_ids and time.monotonic() > deadline:
                print_note(f"{len(open_ids)} orders have not ended within {seconds:.0f} s: {dict(Counter(statuses))}")
                return
            await asyncio.sleep(pause if open_ids else 0)
            pause = min(MAX_PAUSE_SECONDS, pause * 1.5)


async def _fetch_status(client: ApiClient, order_id: str) -> str:
    return str((await client.fetch_json(f"/v1/orders/{order_id}"))["status"])


async def collect_audits(client: ApiClient, placed: Mapping[str, Invoice], concurrency: int) -> list[OrderAudit]:
    left_stock = await _read_left_stock(client, placed, concurrency)

    async def audit_one(order_id: str) -> OrderAudit:
        return await audit_order(client, order_id, placed[order_id], dict(left_stock[order_id]))

    with show_progress("orders compared", len(placed)) as advance:
        return await map_concurrently(audit_one, placed, concurrency, on_done=advance)


async def _read_left_stock(
    client: ApiClient, placed: Mapping[str, Invoice], concurrency: int
) -> defaultdict[str, Counter[str]]:
    """By order, the units that the stock ledger has as shipped."""
    skus = sorted({sku for invoice in placed.values() for sku, _ in invoice.lines})
    left_stock: defaultdict[str, Counter[str]] = defaultdict(Counter)

    async def read_ledger(sku: str) -> None:
        cursor: str | None = ""
        while cursor is not None:
            page = await _fetch_or_empty(
                client,
                f"/v1/stock/{encode_segment(sku)}/movements",
                limit=100,
                **({"cursor": cursor} if cursor else {}),
            )
            for item in page.get("items", []):
                if item["kind"] == "ship":
                    left_stock[item["order_id"]][sku] += item["quantity"]
            cursor = page.get("next_cursor")

    with show_progress("stock ledgers read", len(skus)) as advance:
        await map_concurrently(read_ledger, skus, concurrency, on_done=advance)
    return left_stock


async def audit_order(client: ApiClient, order_id: str, invoice: Invoice, left_stock: dict[str, int]) -> OrderAudit:
    """One order, as orders, payments, the payment provider, shipping, inventory and notifications know it."""
    order = await client.fetch_json(f"/v1/orders/{order_id}")
    payment = await _fetch_or_empty(client, f"/v1/payments/{order_id}")
    ledger = await _fetch_or_empty(client, f"/v1/payments/{order_id}/provider-ledger")
    shipment = await _fetch_or_empty(client, f"/v1/shipments/{order_id}")
    parcels = shipment.get("parcels", []) if shipment.get("status") in SHIPPED_STATUSES else []
    notifications = (await client.fetch_json("/v1/notifications", order_id=order_id, limit=100))["items"]
    provider_entries = ledger.get("items", [])
    return OrderAudit(
        order_id=order_id,
        name=invoice.number,
        invoiced=dict(invoice.lines),
        status=order["status"],
        is_cancelling=order["cancelling"],
        total=order["total"]["amount"],
        ordered=_sum_by_sku(order["lines"]),
        captured=sum(capture["amount"]["amount"] for capture in payment.get("captures", [])),
        refunded=sum(refund["amount"]["amount"] for refund in payment.get("refunds", []) if refund["state"] == "done"),
        provider_captured=sum(
            entry["amount"]["amount"] for entry in provider_entries if entry["outcome"] == "captured"
        ),
        provider_refunded=sum(
            entry["amount"]["amount"] for entry in provider_entries if entry["outcome"] == "refunded"
        ),
        shipped=_sum_by_sku(parcels),
        left_stock=left_stock,
        emails=Counter(
            item["kind"] for item in notifications if item["channel"] == "email" and item["state"] == "sent"
        ),
    )


async def _fetch_or_empty(client: ApiClient, path: str, **params: str | int) -> dict[str, Any]:
    """A service that has never heard of an order has no document of it."""
    try:
        document: dict[str, Any] = await client.fetch_json(path, **params)
    except ApiError as refusal:
        if refusal.status != 404:
            raise
        return {}
    return document


def _sum_by_sku(lines: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    units: Counter[str] = Counter()
    for line in lines:
        units[line["sku"]] += line["quantity"]
    return dict(units)
