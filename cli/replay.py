"""`caravan replay FILE...`: each invoice as an order of its customer, each return that gives a whole order back as its
cancellation, then the reconciliation.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import typer

from cli.api_client import ApiClient, ApiError, open_client
from cli.import_files import check_files_used, import_into, parse_options, read_files, run_or_exit
from cli.import_report import ImportResult, build_import_json, print_import_report
from cli.order_facts import collect_audits, wait_until_final
from cli.reconcile import UNDONE_STATUSES, Difference, OrderAudit, find_differences
from cli.replay_report import ReplayResult, build_replay_json, print_replay_report
from cli.retail.catalogue import build_catalogue
from cli.retail.invoices import Cancellation, Invoice, build_invoices, match_returns
from cli.retail.timestamps import DateOrder
from cli.retail.values import Decimals
from cli.terminal import print_json, print_note, show_progress

SETTLE_SECONDS = 60.0
"""Mail and money may follow an order's end a little later: differences are looked at again, until they have not become
fewer for so long.
"""


def replay_invoices(
    files: list[Path],
    url: str | None,
    speed: float | None,
    concurrency: int,
    import_first: bool,
    deadline: float,
    max_wait_seconds: float,
    output: Literal["table", "json"],
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    column: list[str] | None,
) -> None:
    invoice_files = read_files(files, parse_options(delimiter, encoding, decimal, dates, currency, column))
    orders = build_invoices(invoice_files)
    returns = match_returns(invoice_files, orders)
    catalogue = build_catalogue(invoice_files)

    async def run_replay() -> tuple[ImportResult | None, ReplayResult, list[OrderAudit], list[Difference]]:
        async with open_client(url, print_note, connections=concurrency, max_wait_seconds=max_wait_seconds) as client:
            import_result = await import_into(client, invoice_files, catalogue, concurrency) if import_first else None
            if output == "table":
                print_import_report(invoice_files, catalogue, import_result, output)
            result = await place_orders(client, orders, returns.cancellations, concurrency, speed)
            audits, differences = await reconcile_orders(client, orders, result, concurrency, deadline)
            return import_result, result, audits, differences

    import_result, result, audits, differences = run_or_exit(run_replay())
    if output == "json":
        print_json(
            {
                "import": build_import_json(invoice_files, catalogue, import_result),
                **build_replay_json(orders, returns, result, audits, differences, catalogue.currency),
            }
        )
    else:
        print_replay_report(invoice_files, orders, returns, result, audits, differences, catalogue.currency)
    if not check_files_used(invoice_files) or differences:
        raise typer.Exit(1)


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


async def reconcile_orders(
    client: ApiClient, orders: Sequence[Invoice], result: ReplayResult, concurrency: int, deadline: float
) -> tuple[list[OrderAudit], list[Difference]]:
    """Waits for the orders to end; what differs then is read again for a while, because the services follow each
    other.
    """
    placed = {result.placed[order.idempotency_key]: order for order in orders if order.idempotency_key in result.placed}
    await wait_until_final(client, list(placed), concurrency, deadline)
    audits = {each.order_id: each for each in await collect_audits(client, placed, concurrency)}
    settle_end = time.monotonic() + SETTLE_SECONDS
    differences = find_differences(list(audits.values()))
    while differences and time.monotonic() < settle_end:
        await asyncio.sleep(2.0)
        unsettled = {order_id: placed[order_id] for order_id in {difference.order_id for difference in differences}}
        audits.update({each.order_id: each for each in await collect_audits(client, unsettled, concurrency)})
        previous_count, differences = len(differences), find_differences(list(audits.values()))
        if len(differences) < previous_count:
            settle_end = time.monotonic() + SETTLE_SECONDS
    duplicate_count = len([order for order in orders if order.idempotency_key in result.placed]) - len(placed)
    if duplicate_count:
        differences.append(
            Difference("", "", f"{duplicate_count} invoices got an order that stands for another one already")
        )
    _move_late_cancellations(result, audits)
    return list(audits.values()), differences


def _move_late_cancellations(result: ReplayResult, audits: Mapping[str, OrderAudit]) -> None:
    """An accepted cancellation may still come too late: the carrier had the parcels before they could be stopped."""
    late = [
        each
        for each in result.cancellations
        if audits[result.placed[each.order.idempotency_key]].status not in UNDONE_STATUSES
    ]
    result.cancellations = [each for each in result.cancellations if each not in late]
    result.late_cancellations += late
