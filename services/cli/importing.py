"""`caravan import FILE...`: the products, customers and stock that invoice files speak of. Repeating it changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import typer

from services.cli.import_report import Brought, report
from services.cli.retail.catalogue import Catalogue, Customer, catalogue
from services.cli.retail.layout import DELIMITERS, Options, parse_columns
from services.cli.retail.lines import InvoiceFile, Line, classify, leave_out_repeated
from services.cli.retail.moments import DateOrder
from services.cli.retail.reader import NotAnInvoiceFile
from services.cli.retail.values import Decimals
from services.cli.shop import Away, Refused, Shop, open_shop
from services.cli.terminal import fail, print_note, show_progress

BULK = 500

T = TypeVar("T")


def import_(
    files: list[Path],
    url: str | None,
    output: Literal["table", "json"],
    concurrency: int,
    patience: float,
    dry_run: bool,
    explain: bool,
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    column: list[str] | None,
) -> None:
    read = read_files(files, reading_options(delimiter, encoding, decimal, dates, currency, column))
    found = catalogue(read)
    brought = None
    if not dry_run and not explain and found.products:
        brought = run(_import(read, found, url, concurrency, patience))
    report(read, found, brought, output, sample=explain)
    if not check_used(read):
        raise typer.Exit(1)


def reading_options(
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    columns: Sequence[str] | None,
) -> Options:
    sign = next((sign for sign, name in DELIMITERS.items() if name == delimiter), delimiter)
    if sign is not None and (len(sign) != 1 or sign in '"\r\n'):
        fail(f"--delimiter {delimiter}: write {', '.join(DELIMITERS.values())}, or one sign")
    try:
        return Options(sign, encoding, decimal, dates, currency, parse_columns(columns or ()))
    except NotAnInvoiceFile as error:
        fail(str(error))


def check_used(files: Sequence[InvoiceFile]) -> bool:
    """Whether every file had something to use, and every line is accounted for; says what is wrong."""
    good = True
    for file in files:
        if not file.accounted:
            print_note(f"{file.name}: lines read and lines accounted for differ: this is an error of the program")
        elif not file.sales and not file.returns and not file.repeated:
            print_note(f"{file.name}: none of its {file.read:,} lines can be used. `caravan import --explain` shows how it is read.")
        else:
            continue
        good = False
    return good


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


def read_files(paths: Iterable[Path], options: Options) -> list[InvoiceFile]:
    """Each different content once, and each line that several files have; a file that is no invoice list ends the command."""
    found: dict[str, InvoiceFile] = {}
    for path in paths:
        try:
            file = classify(str(path), path.read_bytes(), options)
        except NotAnInvoiceFile as error:
            fail(f"{path}: {error}")
        if file.digest in found:
            print_note(f"{path} is the same as {found[file.digest].name}: read once")
        found.setdefault(file.digest, file)
    files = leave_out_repeated(list(found.values()))
    currencies = sorted({file.currency for file in files})
    if len(currencies) > 1:
        fail(f"the files are in {', '.join(currencies)}: import those of each currency by themselves, or say --currency")
    return files


async def bring(shop: Shop, files: Sequence[InvoiceFile], found: Catalogue, concurrency: int) -> Brought:
    """Products first, then the customers, then each file's stock."""
    await _bring_products(shop, found)
    new = await _bring_customers(shop, list(found.customers.values()), concurrency)
    units = [await _bring_stock(shop, file, concurrency) for file in files]
    stocked = sum(received > 0 for received in units)
    return Brought(len(found.products), new, len(found.customers) - new, sum(units), stocked, len(units) - stocked)


async def _bring_products(shop: Shop, found: Catalogue) -> None:
    products: list[dict[str, Any]] = [
        {
            "sku": product.sku,
            "name": product.name,
            "description": product.name,
            "category": product.category,
            "price": {"amount": product.price, "currency": found.currency},
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


async def _bring_stock(shop: Shop, file: InvoiceFile, concurrency: int) -> int:
    """Receive what the sales of the file need; how many units were not received before, by an import of the same lines from any file."""
    sales = sorted(file.sales, key=lambda line: line.sku)  # what a request has of one product is one movement
    batches = [sales[start : start + BULK] for start in range(0, len(sales), BULK)]

    async def receive(batch: Sequence[Line]) -> int:
        movements = [
            {"sku": line.sku, "kind": "receive", "quantity": line.quantity, "reason": "import", "reference": f"import-{line.identity}"}
            for line in batch
        ]
        answer = await shop.call("POST", "/v1/stock/movements", body={"movements": movements})
        repeated = set(answer.json().get("repeated", ()))
        return sum(line.quantity for line in batch if f"import-{line.identity}" not in repeated)

    with show_progress("stock", len(batches)) as advance:
        return sum([units async for units in each(batches, receive, concurrency, advance)])


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
