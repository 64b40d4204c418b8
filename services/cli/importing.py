"""`caravan import FILE...`: the products, customers and stock that invoice files speak of. Repeating it changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import typer

from caravan.money import Money
from services.cli.retail.catalogue import CURRENCY, Catalogue, Customer, catalogue, stock_needed
from services.cli.retail.lines import InvoiceFile, classify, reasons
from services.cli.retail.reader import NotAnInvoiceFile
from services.cli.shop import PATIENCE_SECONDS, Away, Refused, Shop, open_shop
from services.cli.terminal import fail, print_json, print_note, print_table, show_progress

BULK = 500
CONCURRENCY = 8
NAMED = 5
"""So many line numbers are printed for each reason."""

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", exists=True, dir_okay=False, readable=True, help="Invoice lines as CSV.")]
Url = Annotated[str | None, typer.Option(help="The gateway; by default the one on CARAVAN_PORT of this machine.", show_default=False)]
Output = Annotated[Literal["table", "json"], typer.Option(help="How to print the result.")]
Concurrency = Annotated[int, typer.Option(min=1, max=256, help="Requests under way at the same time.")]

Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for a shop that does not answer.")]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Brought:
    """What an import changed in the shop."""

    products: int
    new_customers: int
    known_customers: int
    units: int
    files_stocked: int
    files_stocked_before: int


def import_(
    files: Files,
    url: Url = None,
    output: Output = "table",
    concurrency: Concurrency = CONCURRENCY,
    patience: Patience = PATIENCE_SECONDS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read and report only; ask no shop.")] = False,
) -> None:
    """Bring the products, customers and stock of invoice files (CSV) into the shop, and say of every line what became of it.

    Importing a file again adds nothing. Exit status 1 when a line is not accounted for.
    """
    read = read_files(files)
    found = catalogue(read)
    brought = None if dry_run else run(_import(read, found, url, concurrency, patience))
    report(read, found, brought, output)
    if not all(file.accounted for file in read):
        print_note("lines read and lines accounted for differ: this is an error of the program")
        raise typer.Exit(1)


async def _import(read: Sequence[InvoiceFile], found: Catalogue, url: str | None, concurrency: int, patience: float) -> Brought:
    async with open_shop(url, print_note, connections=concurrency, patience=patience) as shop:
        return await bring(shop, read, found, concurrency)


def run(work: Awaitable[T]) -> T:
    """The command's work; the shop's refusal or absence ends it with a message."""

    async def whole() -> T:
        return await work

    try:
        return asyncio.run(whole())
    except KeyboardInterrupt:
        print_note("interrupted; run it again to go on: nothing is done twice")
        raise typer.Exit(130) from None
    except (Refused, Away) as failure:
        fail(str(failure))
    except BaseExceptionGroup as group:  # of a task group: the first is the cause, the others were under way with it
        first = _first(group)
        if not isinstance(first, Refused | Away):
            raise
        fail(str(first))


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def read_files(paths: Iterable[Path]) -> list[InvoiceFile]:
    """Each different content once; a file that is no invoice list ends the command."""
    found: dict[str, InvoiceFile] = {}
    for path in paths:
        try:
            file = classify(str(path), path.read_bytes())
        except NotAnInvoiceFile as error:
            fail(f"{path}: {error}")
        if file.digest in found:
            print_note(f"{path} is the same as {found[file.digest].name}: read once")
        found.setdefault(file.digest, file)
    return list(found.values())


async def bring(shop: Shop, files: Sequence[InvoiceFile], found: Catalogue, concurrency: int) -> Brought:
    """Products first, then the customers, then each file's stock."""
    await _bring_products(shop, found)
    new = await _bring_customers(shop, list(found.customers.values()), concurrency)
    stocked = [await _bring_stock(shop, file) for file in files]
    units = sum(sum(stock_needed(file).values()) for file, fresh in zip(files, stocked, strict=True) if fresh)
    return Brought(len(found.products), new, len(found.customers) - new, units, sum(stocked), len(stocked) - sum(stocked))


async def _bring_products(shop: Shop, found: Catalogue) -> None:
    products: list[dict[str, Any]] = [
        {
            "sku": product.sku,
            "name": product.name,
            "description": product.name,
            "category": product.category,
            "price": {"amount": product.price, "currency": CURRENCY},
            "attributes": {},
        }
        for product in found.products.values()
    ]
    with show_progress("products", len(products)) as advance:
        for start in range(0, len(products), BULK):
            part = products[start : start + BULK]
            await shop.call("PUT", "/v1/products", body={"products": part})
            for _ in part:
                advance()


async def _bring_customers(shop: Shop, customers: Sequence[Customer], concurrency: int) -> int:
    """Returns how many are new."""

    async def invite(customer: Customer) -> bool:
        body = {"email": customer.email, "name": customer.name, "role": "customer"}
        return (await shop.call("POST", "/v1/users/invitations", body=body)).status_code == 201

    with show_progress("customers", len(customers)) as advance:
        return sum([fresh async for fresh in each(customers, invite, concurrency, advance)])


async def _bring_stock(shop: Shop, file: InvoiceFile) -> bool:
    """Receive what the sales of the file need. False when an import of the same content did so before."""
    movements = [
        {"sku": sku, "kind": "receive", "quantity": units, "reason": f"import {file.digest[:16]}"}
        for sku, units in stock_needed(file).items()
    ]
    fresh = False
    for start in range(0, len(movements), BULK):
        answer = await shop.call(
            "POST", "/v1/stock/movements", body={"movements": movements[start : start + BULK]}, key=f"import-{file.digest}-{start}"
        )
        fresh = fresh or "idempotency-replayed" not in answer.headers
    return fresh


async def each(items: Sequence[T], act: Callable[[T], Awaitable[Any]], concurrency: int, advance: Callable[[], None]) -> AsyncIterator[Any]:
    """`act` on every item, so many at a time; the answers in the order of the items. The first failure ends it."""
    gate = asyncio.Semaphore(concurrency)

    async def one(item: T) -> Any:
        async with gate:
            answer = await act(item)
        advance()
        return answer

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(item)) for item in items]
    for task in tasks:
        yield task.result()


def report(files: Sequence[InvoiceFile], found: Catalogue, brought: Brought | None, output: str) -> None:
    if output == "json":
        print_json(as_json(files, found, brought))
        return
    rows: list[tuple[object, ...]] = [
        (file.name, file.encoding, file.read, len(file.sales), len(file.returns), len(file.refused)) for file in files
    ]
    totals = [
        sum(len(part) for part in parts) for parts in ([f.sales for f in files], [f.returns for f in files], [f.refused for f in files])
    ]
    rows.append(("all", "", sum(file.read for file in files), *totals))
    print_table(
        "Lines: read = used as sale + used as return + refused", ("file", "encoding", "#read", "#sale", "#return", "#refused"), rows
    )
    if totals[2]:
        print_table(
            "Refused",
            ("reason", "#lines", "first of them"),
            [(reason, count, _first_lines(files, reason)) for reason, count in reasons(files).most_common()],
        )
    facts: list[tuple[str, object]] = [
        ("products", len(found.products)),
        ("customers (each invoice of a guest is one)", len(found.customers)),
        ("sales lines priced at the catalogue, because the file has another price", found.repriced),
        ("what the catalogue's prices make of these lines, less the file's", str(Money(amount=found.difference, currency=CURRENCY))),
    ]
    if brought:
        facts += [
            ("customers that were new, known", f"{brought.new_customers:,}, {brought.known_customers:,}"),
            ("units received into stock", brought.units),
            ("files whose stock was received before", brought.files_stocked_before),
        ]
    print_table("Shop", ("what", "#"), facts)


def _first_lines(files: Sequence[InvoiceFile], reason: str) -> str:
    several = len(files) > 1
    found = [(file, refusal) for file in files for refusal in file.refused if refusal.reason == reason]
    places = [
        f"{Path(file.name).name + ':' if several else 'line '}{refusal.number} ({refusal.detail[:40]})" for file, refusal in found[:NAMED]
    ]
    return ", ".join(places) + (", …" if len(found) > NAMED else "")


def as_json(files: Sequence[InvoiceFile], found: Catalogue, brought: Brought | None) -> dict[str, Any]:
    return {
        "files": [
            {
                "name": file.name,
                "digest": file.digest,
                "encoding": file.encoding,
                "read": file.read,
                "used": {"sale": len(file.sales), "return": len(file.returns)},
                "refused": {
                    reason: {"lines": count, "first": [refusal.number for refusal in file.refused if refusal.reason == reason][:NAMED]}
                    for reason, count in reasons([file]).most_common()
                },
            }
            for file in files
        ],
        "products": len(found.products),
        "customers": len(found.customers),
        "repriced": {"lines": found.repriced, "difference": {"amount": found.difference, "currency": CURRENCY}},
        "brought": None
        if brought is None
        else {
            "new_customers": brought.new_customers,
            "known_customers": brought.known_customers,
            "units": brought.units,
            "files_stocked": brought.files_stocked,
            "files_stocked_before": brought.files_stocked_before,
        },
    }
