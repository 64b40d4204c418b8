"""`caravan replay FILE...`: each invoice as an order of its customer, each return that gives a whole order back as its
cancellation, then the reconciliation.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import typer

from cli.api_client import ApiClient, open_client
from cli.import_files import import_into, run_or_exit
from cli.import_report import ImportResult, build_import_json, print_import_report
from cli.invoice_files import check_files_used, parse_options, read_files
from cli.order_comparison import UNDONE_STATUSES, Difference, OrderAudit, find_differences
from cli.order_facts import collect_audits, wait_until_final
from cli.place_orders import place_orders
from cli.reconcile import compare_all_until_now, list_unsettled
from cli.replay_report import ReplayResult, build_replay_json, print_replay_report
from cli.retail.catalogue import build_catalogue
from cli.retail.invoices import Invoice, build_invoices, match_returns
from cli.retail.timestamps import DateOrder
from cli.retail.values import Decimals
from cli.terminal import print_json, print_note

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


async def reconcile_orders(
    client: ApiClient, orders: Sequence[Invoice], result: ReplayResult, concurrency: int, deadline: float
) -> tuple[list[OrderAudit], list[Difference]]:
    """Waits for the orders to end; what differs then is read again for a while, because the services follow each
    other. Whether money and stock add up is for reconciliation to say.
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
    differences += await find_cases(client, placed, deadline)
    duplicate_count = len([order for order in orders if order.idempotency_key in result.placed]) - len(placed)
    if duplicate_count:
        differences.append(
            Difference("", "", f"{duplicate_count} invoices got an order that stands for another one already")
        )
    _move_late_cancellations(result, audits)
    return list(audits.values()), differences


async def find_cases(client: ApiClient, placed: Mapping[str, Invoice], deadline: float) -> list[Difference]:
    """What reconciliation has found of these orders and of their products."""
    await compare_all_until_now(client, deadline)
    skus = {sku for invoice in placed.values() for sku, _ in invoice.lines}
    return [
        Difference(
            case["order_id"] or case["subject"],
            placed[case["order_id"]].number if case["order_id"] else "",
            f"{case['title']} ({case['gap']})",
        )
        for case in await list_unsettled(client)
        if (case["order_id"] in placed if case["order_id"] else case["subject"] in skus)
    ]


def _move_late_cancellations(result: ReplayResult, audits: Mapping[str, OrderAudit]) -> None:
    """An accepted cancellation may still come too late: the carrier had the parcels before they could be stopped."""
    late = [
        each
        for each in result.cancellations
        if audits[result.placed[each.order.idempotency_key]].status not in UNDONE_STATUSES
    ]
    result.cancellations = [each for each in result.cancellations if each not in late]
    result.late_cancellations += late
