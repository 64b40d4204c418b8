"""`caravan import FILE...`: create the products, customers and stock that invoice files mention. A second run changes
nothing.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer

from caravan.concurrency import map_concurrently
from cli.api_client import ApiClient, ApiError, ApiUnavailable, open_client
from cli.import_report import ImportResult, print_import_report
from cli.invoice_files import check_files_used, parse_options, read_files
from cli.retail.catalogue import Catalogue, Customer, build_catalogue
from cli.retail.lines import InvoiceFile, SalesLine
from cli.retail.timestamps import DateOrder
from cli.retail.values import Decimals
from cli.terminal import exit_with_error, print_note, show_progress

BATCH_SIZE = 500

T = TypeVar("T")


def import_files(
    files: list[Path],
    url: str | None,
    output: Literal["table", "json"],
    concurrency: int,
    max_wait_seconds: float,
    dry_run: bool,
    explain: bool,
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    column: list[str] | None,
) -> None:
    invoice_files = read_files(files, parse_options(delimiter, encoding, decimal, dates, currency, column))
    catalogue = build_catalogue(invoice_files)
    result = None
    if not dry_run and not explain and catalogue.products:
        result = run_or_exit(_open_and_import(invoice_files, catalogue, url, concurrency, max_wait_seconds))
    print_import_report(invoice_files, catalogue, result, output, sample=explain)
    if not check_files_used(invoice_files):
        raise typer.Exit(1)


async def _open_and_import(
    invoice_files: Sequence[InvoiceFile],
    catalogue: Catalogue,
    url: str | None,
    concurrency: int,
    max_wait_seconds: float,
) -> ImportResult:
    async with open_client(url, print_note, connections=concurrency, max_wait_seconds=max_wait_seconds) as client:
        return await import_into(client, invoice_files, catalogue, concurrency)


def run_or_exit(action: Awaitable[T]) -> T:
    """The command's work; the shop's refusal or absence ends it with a message."""

    async def await_action() -> T:
        return await action

    try:
        return asyncio.run(await_action())
    except KeyboardInterrupt:
        print_note("interrupted; run it again to go on: nothing is done twice")
        raise typer.Exit(130) from None
    except (ApiError, ApiUnavailable) as failure:
        exit_with_error(str(failure))
    except BaseExceptionGroup as group:  # of a task group: the first is the cause, the others were under way with it
        first = group.exceptions[0]
        if not isinstance(first, ApiError | ApiUnavailable):
            raise
        exit_with_error(str(first))


async def import_into(
    client: ApiClient, files: Sequence[InvoiceFile], catalogue: Catalogue, concurrency: int
) -> ImportResult:
    """Products first, then the customers, then each file's stock."""
    await _import_products(client, catalogue)
    new_customers = await _import_customers(client, list(catalogue.customers.values()), concurrency)
    units = [await _import_stock(client, file, concurrency) for file in files]
    stocked_files = sum(received > 0 for received in units)
    return ImportResult(
        len(catalogue.products),
        new_customers,
        len(catalogue.customers) - new_customers,
        sum(units),
        stocked_files,
        len(units) - stocked_files,
    )


async def _import_products(client: ApiClient, catalogue: Catalogue) -> None:
    products: list[dict[str, Any]] = [
        {
            "sku": product.sku,
            "name": product.name,
            "description": product.name,
            "category": product.category,
            "price": {"amount": product.price, "currency": catalogue.currency},
            "attributes": {},
        }
        for product in catalogue.products.values()
    ]
    with show_progress("products", len(products)) as advance:
        for start in range(0, len(products), BATCH_SIZE):
            batch = products[start : start + BATCH_SIZE]
            await client.send_request("PUT", "/v1/products", body={"products": batch})
            for _ in batch:
                advance()


async def _import_customers(client: ApiClient, customers: Sequence[Customer], concurrency: int) -> int:
    """Returns how many are new."""

    async def invite_customer(customer: Customer) -> bool:
        body = {"email": customer.email, "name": customer.name, "role": "customer"}
        return (await client.send_request("POST", "/v1/users/invitations", body=body)).status_code == 201

    with show_progress("customers", len(customers)) as advance:
        return sum(await map_concurrently(invite_customer, customers, concurrency, on_done=advance))


async def _import_stock(client: ApiClient, file: InvoiceFile, concurrency: int) -> int:
    """Receive what the sales of the file need; how many units were not received before, by an import of the same lines
    from any file.
    """
    sales = sorted(file.sales, key=lambda line: line.sku)  # what a request has of one product is one movement
    batches = [sales[start : start + BATCH_SIZE] for start in range(0, len(sales), BATCH_SIZE)]

    async def receive_batch(batch: Sequence[SalesLine]) -> int:
        movements = [
            {
                "sku": line.sku,
                "kind": "receive",
                "quantity": line.quantity,
                "reason": "import",
                "reference": f"import-{line.identity}",
            }
            for line in batch
        ]
        response = await client.send_request("POST", "/v1/stock/movements", body={"movements": movements})
        repeated = set(response.json().get("repeated", ()))
        return sum(line.quantity for line in batch if f"import-{line.identity}" not in repeated)

    with show_progress("stock", len(batches)) as advance:
        return sum(await map_concurrently(receive_batch, batches, concurrency, on_done=advance))
