"""`caravan replay FILE...`: each invoice as an order of its customer, each return that gives a whole order back as its cancellation, then the reconciliation."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import typer

from services.cli.accounts import gather_facts, wait_until_ended
from services.cli.import_report import Brought, as_json, report
from services.cli.importing import bring, check_used, read_files, reading_options, run
from services.cli.reconcile import UNDONE, Difference, Facts, differences
from services.cli.replay_report import Walk, as_facts, show_walk
from services.cli.retail.catalogue import catalogue
from services.cli.retail.invoices import Cancellation, Invoice, invoices, match_returns
from services.cli.retail.moments import DateOrder
from services.cli.retail.values import Decimals
from services.cli.shop import Refused, Shop, open_shop
from services.cli.terminal import print_json, print_note, show_progress

SETTLE_SECONDS = 60.0
"""Mail and money may follow an order's end a little later: differences are looked at again, until they have not become fewer for so long."""


def replay(
    files: list[Path],
    url: str | None,
    speed: float | None,
    concurrency: int,
    import_first: bool,
    deadline: float,
    patience: float,
    output: Literal["table", "json"],
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    column: list[str] | None,
) -> None:
    read = read_files(files, reading_options(delimiter, encoding, decimal, dates, currency, column))
    orders = invoices(read)
    returns = match_returns(read, orders)
    found = catalogue(read)

    async def work() -> tuple[Brought | None, Walk, list[Facts], list[Difference]]:
        async with open_shop(url, print_note, connections=concurrency, patience=patience) as shop:
            brought = await bring(shop, read, found, concurrency) if import_first else None
            if output == "table":
                report(read, found, brought, output)
            walk = await place_all(shop, orders, returns.cancellations, concurrency, speed)
            facts, differing = await reconcile(shop, orders, walk, concurrency, deadline)
            return brought, walk, facts, differing

    brought, walk, facts, differing = run(work())
    if output == "json":
        print_json({"import": as_json(read, found, brought), **as_facts(orders, returns, walk, facts, differing, found.currency)})
    else:
        show_walk(read, orders, returns, walk, facts, differing, found.currency)
    if not check_used(read) or differing:
        raise typer.Exit(1)


async def place_all(
    shop: Shop, orders: Sequence[Invoice], cancellations: Sequence[Cancellation], concurrency: int, speed: float | None
) -> Walk:
    """Begins each placement and cancellation in the order of their time, so many at once."""
    walk = Walk()
    known = {order.key: asyncio.Event() for order in orders}
    schedule: list[tuple[datetime, int, Invoice | Cancellation]] = sorted(
        [(order.time, 0, order) for order in orders] + [(each.time, 1, each) for each in cancellations], key=lambda entry: entry[:2]
    )
    gate = asyncio.Semaphore(concurrency)
    began = time.monotonic()

    async def act(what: Invoice | Cancellation) -> None:
        try:
            if isinstance(what, Invoice):
                await _place(shop, what, walk)
                known[what.key].set()
            else:
                await known[what.order.key].wait()
                await _cancel(shop, what, walk)
        finally:
            gate.release()
        advance()

    with show_progress("orders and cancellations", len(schedule)) as advance:
        async with asyncio.TaskGroup() as group:
            for moment, _, what in schedule:
                if speed:
                    await asyncio.sleep(max(0.0, (moment - schedule[0][0]).total_seconds() / speed - (time.monotonic() - began)))
                await gate.acquire()
                group.create_task(act(what))
    walk.seconds = time.monotonic() - began
    return walk


async def _place(shop: Shop, invoice: Invoice, walk: Walk) -> None:
    if invoice.beyond:
        walk.refused.append((invoice, f"beyond the API's limits: {invoice.beyond}"))
        return
    try:
        answer = await shop.call("POST", "/v1/orders", body=order_body(invoice), key=invoice.key, customer=invoice.customer.email)
    except Refused as refusal:
        other = refusal.status == 422 and "Idempotency-Key" in refusal.detail
        walk.refused.append((invoice, "it was placed before with other lines" if other else f"{refusal.status} {refusal.detail}"))
        return
    walk.placed[invoice.key] = answer.json()["id"]
    walk.before += "idempotency-replayed" in answer.headers


def order_body(invoice: Invoice) -> dict[str, Any]:
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


async def _cancel(shop: Shop, cancellation: Cancellation, walk: Walk) -> None:
    order_id = walk.placed.get(cancellation.order.key)
    if order_id is None:
        walk.never_placed.append(cancellation)
        return
    body = {"reason": f"given back by {', '.join(cancellation.by)}"[:200]}
    try:
        await shop.call("POST", f"/v1/orders/{order_id}/cancel", body=body, customer=cancellation.order.customer.email)
    except Refused as refusal:
        if refusal.status != 409:
            raise
        walk.too_late.append(cancellation)
    else:
        walk.cancelled.append(cancellation)


async def reconcile(
    shop: Shop, orders: Sequence[Invoice], walk: Walk, concurrency: int, deadline: float
) -> tuple[list[Facts], list[Difference]]:
    """Waits for the orders to end; what differs then is read again for a while, because the services follow each other."""
    placed = {walk.placed[order.key]: order for order in orders if order.key in walk.placed}
    await wait_until_ended(shop, list(placed), concurrency, deadline)
    facts = {each.order_id: each for each in await gather_facts(shop, placed, concurrency)}
    until = time.monotonic() + SETTLE_SECONDS
    differing = differences(list(facts.values()))
    while differing and time.monotonic() < until:
        await asyncio.sleep(2.0)
        again = {order_id: placed[order_id] for order_id in {difference.order_id for difference in differing}}
        facts.update({each.order_id: each for each in await gather_facts(shop, again, concurrency)})
        before, differing = len(differing), differences(list(facts.values()))
        if len(differing) < before:
            until = time.monotonic() + SETTLE_SECONDS
    twice = len([order for order in orders if order.key in walk.placed]) - len(placed)
    if twice:
        differing.append(Difference("", "", f"{twice} invoices got an order that stands for another one already"))
    _sort_out(walk, facts)
    return list(facts.values()), differing


def _sort_out(walk: Walk, facts: Mapping[str, Facts]) -> None:
    """An accepted cancellation may still come too late: the carrier had the parcels before they could be stopped."""
    late = [each for each in walk.cancelled if facts[walk.placed[each.order.key]].status not in UNDONE]
    walk.cancelled = [each for each in walk.cancelled if each not in late]
    walk.too_late += late
