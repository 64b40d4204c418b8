"""The invoices of `caravan replay` as requests: each is placed as an order of its customer, each whole return cancels
one, in the order of their time.

`replay.py` is the command and compares what came of them.
"""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cli.api_client import ApiClient, ApiError
from cli.replay_report import ReplayResult
from cli.retail.invoices import Cancellation, Invoice
from cli.terminal import show_progress


async def place_orders(
    client: ApiClient,
    orders: Sequence[Invoice],
    cancellations: Sequence[Cancellation],
    concurrency: int,
    speed: float | None,
) -> ReplayResult:
    """Begins each placement and cancellation in the order of their time, so many at once."""
    result = ReplayResult()
    placement_events = {order.idempotency_key: asyncio.Event() for order in orders}
    schedule: list[tuple[datetime, int, Invoice | Cancellation]] = sorted(
        [(order.time, 0, order) for order in orders] + [(each.time, 1, each) for each in cancellations],
        key=lambda entry: entry[:2],
    )
    slots = asyncio.Semaphore(concurrency)
    started_at = time.monotonic()

    async def run_step(step: Invoice | Cancellation) -> None:
        try:
            if isinstance(step, Invoice):
                await _place_order(client, step, result)
                placement_events[step.idempotency_key].set()
            else:
                await placement_events[step.order.idempotency_key].wait()
                await _cancel_order(client, step, result)
        finally:
            slots.release()
        advance()

    with show_progress("orders and cancellations", len(schedule)) as advance:
        async with asyncio.TaskGroup() as group:
            for moment, _, step in schedule:
                if speed:
                    await asyncio.sleep(
                        max(0.0, (moment - schedule[0][0]).total_seconds() / speed - (time.monotonic() - started_at))
                    )
                await slots.acquire()
                group.create_task(run_step(step))
    result.seconds = time.monotonic() - started_at
    return result


async def _place_order(client: ApiClient, invoice: Invoice, result: ReplayResult) -> None:
    if invoice.exceeded_limit:
        result.refused_invoices.append((invoice, f"beyond the API's limits: {invoice.exceeded_limit}"))
        return
    try:
        response = await client.send_request(
            "POST",
            "/v1/orders",
            body=build_order_body(invoice),
            key=invoice.idempotency_key,
            customer=invoice.customer.email,
        )
    except ApiError as refusal:
        has_other_lines = refusal.status == 422 and "Idempotency-Key" in refusal.detail
        result.refused_invoices.append(
            (
                invoice,
                "it was placed before with other lines" if has_other_lines else f"{refusal.status} {refusal.detail}",
            )
        )
        return
    result.placed[invoice.idempotency_key] = response.json()["id"]
    result.placed_before += "idempotency-replayed" in response.headers


def build_order_body(invoice: Invoice) -> dict[str, Any]:
    """The same for the same invoice, wherever it is read from: a repeated order must be equal to be recognised."""
    address = {
        "name": invoice.customer.name,
        "street": f"Invoice {invoice.number}",
        "city": "Unknown",
        "postcode": "0",
        "country": invoice.country,
    }
    lines = [{"sku": sku, "quantity": quantity} for sku, quantity in invoice.lines]
    return {"lines": lines, "shipping_address": address, "payment": {"method": "card", "token": "tok_ok"}}


async def _cancel_order(client: ApiClient, cancellation: Cancellation, result: ReplayResult) -> None:
    order_id = result.placed.get(cancellation.order.idempotency_key)
    if order_id is None:
        result.unplaced_cancellations.append(cancellation)
        return
    body = {"reason": f"given back by {', '.join(cancellation.return_numbers)}"[:200]}
    try:
        await client.send_request(
            "POST", f"/v1/orders/{order_id}/cancel", body=body, customer=cancellation.order.customer.email
        )
    except ApiError as refusal:
        if refusal.status != 409:
            raise
        result.late_cancellations.append(cancellation)
    else:
        result.cancellations.append(cancellation)
