"""`python -m bench.recommendations FOLDER`: how often recommendations are right, on sales files of a real shop.

The orders of the earlier two thirds of the days are purchases; those of the later days are held-out baskets. Of each a
part is shown, as if its customer had just those products, and a hit is a list of ten with a product of the rest. It is
compared with the ten that sell best, which is all that can be said without rules. The rows are written and the lists
made by the service's own code, in a Postgres of the run's own.
"""

import asyncio
import secrets
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid5

import typer

from caravan import embedded, telemetry
from caravan.database import Database
from caravan.runtime import Backends
from caravan.runtime.backends import run_migrations
from cli.invoice_files import read_files
from cli.retail.catalogue import Catalogue, build_catalogue
from cli.retail.conventions import ReadingOptions
from cli.retail.invoices import Invoice, build_invoices
from services.recommendations.main import service
from services.recommendations.model import MAX_SEEDS, Taste
from services.recommendations.settings import Settings
from services.recommendations.store import candidates, history
from services.recommendations.use_cases import recommend_to_taste

LIST_LENGTH = 10
BATCH = 100
LEAST_LIFT = 1.25
NAMESPACE = UUID("5f0b6d0e-6d1c-4b53-9a55-9c8a0c7f4d1e")
Split = Callable[[list[str]], list[str]]
"""Of a basket, its most valuable product first, what is shown."""
TASKS: dict[str, Split] = {
    "half of the basket is shown": lambda skus: sorted(skus)[::2],
    "all but one product is shown": lambda skus: [sku for sku in skus if sku != sorted(skus)[len(skus) // 2]],
    "its most valuable product is shown": lambda skus: skus[:1],
}


@dataclass(frozen=True, slots=True)
class HitRate:
    task: str
    popular: float
    recommended: float


def main(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder of sales files (*.csv).")],
) -> None:
    """Print hit rates at 10. Exit status 1 when with half of the basket shown the rules are not 25 % better."""
    telemetry.configure_logs("warning", "text")
    files = read_files(sorted(folder.glob("*.csv")), ReadingOptions())
    invoices, catalogue = build_invoices(files), build_catalogue(files)
    days = sorted({invoice.time.date() for invoice in invoices})
    first_held_out = days[len(days) * 2 // 3]
    purchases = [invoice for invoice in invoices if invoice.time.date() < first_held_out]
    prices = {product.sku: product.price for product in catalogue.products.values()}
    baskets = [
        _list_skus(invoice, prices)
        for invoice in invoices
        if invoice.time.date() >= first_held_out and len(invoice.lines) > 1
    ]
    rates = asyncio.run(measure_hit_rates(catalogue, purchases, baskets))
    print(
        f"{len(days)} days: {len(purchases)} orders of {len(catalogue.products)} products before {first_held_out}, "
        f"{len(baskets)} held-out baskets of {sum(map(len, baskets)) / len(baskets):.1f} products since"
    )
    print(f"{'hit rate at 10':<40}{'most popular':>14}{'recommended':>14}{'better by':>12}")
    for rate in rates:
        print(
            f"{rate.task:<40}{rate.popular:>14.1%}{rate.recommended:>14.1%}"
            f"{rate.recommended / rate.popular - 1:>+12.0%}"
        )
    if rates[0].recommended < LEAST_LIFT * rates[0].popular:
        raise typer.Exit(1)


def _list_skus(invoice: Invoice, prices: dict[str, int]) -> list[str]:
    """The most valuable line first."""
    return [sku for sku, _ in sorted(invoice.lines, key=lambda line: (-line[1] * prices[line[0]], line[0]))]


async def measure_hit_rates(
    catalogue: Catalogue, purchases: Sequence[Invoice], baskets: Sequence[list[str]]
) -> list[HitRate]:
    async with AsyncExitStack() as stack:
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="caravan-bench-")))
        secret = secrets.token_hex(32)
        urls = await stack.enter_async_context(embedded.start(data, secret=secret, announce=lambda _: None))
        backends = Backends(urls.database_url, urls.redis_url, secret)
        await run_migrations([service], backends)
        database = await Database.open("recommendations", backends.get_database_url("recommendations"), size=2)
        stack.push_async_callback(database.close)
        await write_purchases(database, catalogue, purchases)
        return [await measure_task(database, task, split, baskets) for task, split in TASKS.items()]


async def write_purchases(database: Database, catalogue: Catalogue, purchases: Sequence[Invoice]) -> None:
    prices = {product.sku: product.price for product in catalogue.products.values()}
    async with database.unit_of_work() as uow:
        products = [(product.sku, 1, product.name, product.category, True) for product in catalogue.products.values()]
        await history.update_products(uow, products)
        await history.update_stock(uow, [(product.sku, 1, 1) for product in catalogue.products.values()])
    for start in range(0, len(purchases), BATCH):
        orders = [
            (
                uuid5(NAMESPACE, invoice.idempotency_key),
                uuid5(NAMESPACE, invoice.customer.key),
                "\n".join(_list_skus(invoice, prices)),
                invoice.time,
            )
            for invoice in purchases[start : start + BATCH]
        ]
        async with database.unit_of_work() as uow:
            await history.record_orders(uow, orders)
            await history.record_outcomes(uow, [(order_id, user, "completed") for order_id, user, _, _ in orders])


async def measure_task(database: Database, task: str, split: Split, baskets: Sequence[list[str]]) -> HitRate:
    popular_hits = recommended_hits = 0
    for basket in baskets:
        shown = split(basket)
        rest = set(basket) - set(shown)
        popular = await candidates.find_popular(database, shown, LIST_LENGTH)
        taste = Taste(seeds=shown[:MAX_SEEDS], repeat_skus=[], excluded_skus=set(shown))
        recommended = await recommend_to_taste(database, taste, Settings().pair_minimum, LIST_LENGTH)
        popular_hits += any(item.sku in rest for item in popular)
        recommended_hits += any(item.sku in rest for _, item in recommended)
    return HitRate(task, popular_hits / len(baskets), recommended_hits / len(baskets))


if __name__ == "__main__":
    typer.run(main)
