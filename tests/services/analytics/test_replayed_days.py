"""Days of a real shop as the topics would have them, each order at its own time: reports equal what an independent
script computes from the CSV.

The nine days of the Online Retail set are found by SALES_FOLDER, or beside the repository; a small sample of the same
shape is always there.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import pytest

from caravan.money import Money
from cli.invoice_files import read_files
from cli.retail.catalogue import build_catalogue
from cli.retail.conventions import ReadingOptions
from cli.retail.countries import find_country_code
from cli.retail.invoices import build_invoices, match_returns
from services.orders.messages import ORDER_CREATED, OrderCreated, OrderLine
from services.payments.messages import PAYMENT_COMPLETED, PaymentCompleted
from tests.services.analytics.conftest import make_refund_messages, publish_messages
from tests.services.analytics.reports import get_report
from tests.services.analytics.sales_figures import CsvFigures, CsvOrder, compute_figures
from tests.support.order_messages import ADDRESS, PublishedMessage
from tests.support.shop import Shop

NAMESPACE = UUID("a9b8c7d6-0000-4000-8000-000000000000")
SAMPLE = Path(__file__).parent / "sample_sales"
NINE_DAYS = Path(os.environ.get("SALES_FOLDER") or Path(__file__).parents[4] / "shared" / "data" / "online-retail")
FIGURES = ("orders", "paid", "units", "captured", "refunded")


def make_messages(folder: Path) -> list[PublishedMessage]:
    """What the topics get from the orders and the returns that `caravan replay` makes of the files."""
    files = read_files(sorted(folder.glob("*.csv")), ReadingOptions())
    catalogue, invoices = build_catalogue(files), build_invoices(files)
    given_back = {cancellation.order.idempotency_key for cancellation in match_returns(files, invoices).cancellations}
    published = []
    for invoice in invoices:
        if invoice.exceeded_limit:
            continue
        order_id, user_id = uuid5(NAMESPACE, invoice.idempotency_key), uuid5(NAMESPACE, invoice.customer.key)
        products = [(catalogue.products[sku], quantity) for sku, quantity in invoice.lines]
        lines = [
            OrderLine(sku=p.sku, name=p.name, category=p.category, quantity=quantity, unit_price=p.price)
            for p, quantity in products
        ]
        total = Money(amount=sum(line.quantity * line.unit_price for line in lines), currency=catalogue.currency)
        created = OrderCreated(
            order_id=order_id,
            user_id=user_id,
            email=invoice.customer.email,
            customer_name=invoice.customer.name,
            lines=lines,
            total=total,
            shipping_address=ADDRESS.model_copy(update={"country": invoice.country}),
            payment_method="card",
            placed_at=invoice.time.replace(tzinfo=UTC),
        )
        paid = PaymentCompleted(order_id=order_id, amount=total, attempt=1, invoice_number=invoice.number)
        published += [
            PublishedMessage(ORDER_CREATED, created, order_id),
            PublishedMessage(PAYMENT_COMPLETED, paid, order_id),
        ]
        if invoice.idempotency_key in given_back:
            published += make_refund_messages(order_id, user_id, total)
    return published


def sum_by(figures: CsvFigures, get_key: Callable[[CsvOrder], str]) -> dict[str, tuple[int, ...]]:
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for order in figures.orders:
        amount, pieces = figures.get_amount(order), order.lines.total()
        sums[get_key(order)].update(
            {
                "orders": 1,
                "paid": 1,
                "units": 0 if order.is_given_back else pieces,
                "captured": amount,
                "refunded": amount if order.is_given_back else 0,
            }
        )
    return {key: tuple(found[name] for name in FIGURES) for key, found in sums.items()}


def sum_by_product(figures: CsvFigures) -> dict[str, tuple[int, ...]]:
    sums: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for order in figures.orders:
        for sku, pieces in order.lines.items():
            amount = pieces * figures.prices[sku]
            sums[sku].update({"orders": 1, "paid": 1, "captured": amount})
            sums[sku].update({"refunded": amount} if order.is_given_back else {"units": pieces})
    return {key: tuple(found[name] for name in FIGURES) for key, found in sums.items()}


def count_cohorts(figures: CsvFigures) -> set[tuple[str, int, int, int]]:
    """Of each cohort and week after it: customers and orders."""
    weeks: defaultdict[str, Counter[Any]] = defaultdict(Counter)
    for order in figures.orders:
        if not order.is_given_back:
            day = order.time.date()
            weeks[order.customer][day - timedelta(days=day.weekday())] += 1
    customers: Counter[Any] = Counter()
    orders: Counter[Any] = Counter()
    for found in weeks.values():
        for week, count in found.items():
            customers[min(found), week] += 1
            orders[min(found), week] += count
    return {
        (str(first), (week - first).days // 7, customers[first, week], orders[first, week]) for first, week in customers
    }


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(SAMPLE, id="sample"),
        pytest.param(
            NINE_DAYS,
            id="nine days",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not NINE_DAYS.is_dir(), reason="no sales files: name their folder by SALES_FOLDER"),
            ],
        ),
    ],
)
async def test_reports_equal_what_the_csv_says(shop: Shop, folder: Path) -> None:
    figures = compute_figures(folder)
    await publish_messages(shop, make_messages(folder), seed=1, times=2)
    days = {order.time.date() for order in figures.orders}
    period = {"from": str(min(days)), "to": str(max(days))}

    async def read_sums(by: str) -> dict[str, tuple[int, ...]]:
        report = await get_report(shop, "/v1/reports/sales", by=by, **period)
        assert {row["currency"] for row in report["rows"]} == {"GBP"}
        return {row["key"]: tuple(row[name] for name in FIGURES) for row in report["rows"]}

    assert await read_sums("day") == sum_by(figures, lambda order: str(order.time.date()))
    assert await read_sums("hour") == sum_by(figures, lambda order: f"{order.time:%Y-%m-%dT%H}:00:00Z")
    assert await read_sums("country") == sum_by(figures, lambda order: find_country_code(order.country))
    assert await read_sums("product") == sum_by_product(figures)

    kept = Counter(order.customer for order in figures.orders if not order.is_given_back)
    customers = await get_report(shop, "/v1/reports/customers", **period)
    repeating = sum(count > 1 for count in kept.values())
    assert (customers["customers"], customers["new"], customers["repeating"]) == (len(kept), len(kept), repeating)
    assert sum(row["orders"] for row in customers["rows"]) == kept.total()

    cohorts = (await get_report(shop, "/v1/reports/cohorts", **period))["rows"]
    columns = ("cohort", "later", "customers", "orders")
    assert {tuple(row[name] for name in columns) for row in cohorts} == count_cohorts(figures)

    given_back = [figures.get_amount(order) for order in figures.orders if order.is_given_back]
    today = await shop.get_database("analytics").fetchval("SELECT to_char(max(refunded_at), 'YYYY-MM-DD') FROM sale")
    assert given_back, "the files have returns of whole orders"
    refunds = await get_report(shop, "/v1/reports/refunds", **{"from": "2026-01-01" if today is None else today})
    (total,) = refunds["totals"]
    assert (total["orders"], total["whole"], total["refunded"]) == (len(given_back), len(given_back), sum(given_back))
