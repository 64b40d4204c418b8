"""Invoices become orders, and returns undo the orders that they give back."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from cli.retail.catalogue import build_catalogue, choose_category, sum_stock_needed
from cli.retail.invoices import Returns, build_invoices, match_returns
from cli.retail.lines import InvoiceFile, SalesLine, classify_file

DAY = classify_file("day.csv", (Path(__file__).parent / "data" / "day.csv").read_bytes())
START = datetime(2011, 3, 1, 8, tzinfo=UTC)


def line(
    invoice: str,
    sku: str,
    quantity: int,
    *,
    at: int = 0,
    customer: str | None = "1",
    price: int = 100,
    description: str = "X",
) -> SalesLine:
    return SalesLine(
        at,
        invoice,
        invoice.startswith("C"),
        sku,
        description,
        quantity,
        price,
        START + timedelta(minutes=at),
        customer,
        "France",
    )


def file(*lines: SalesLine) -> InvoiceFile:
    sales, returns = [each for each in lines if not each.is_return], [each for each in lines if each.is_return]
    return InvoiceFile("f", "d", "utf-8", len(lines), sales, returns, [])


def matched(*lines: SalesLine) -> Returns:
    files = [file(*lines)]
    return match_returns(files, build_invoices(files))


def undone(returns: Returns) -> list[str]:
    return [cancellation.order.number for cancellation in returns.cancellations]


def test_lines_of_the_same_product_become_one_line_of_the_order() -> None:
    first = build_invoices([DAY])[0]
    assert (first.number, first.lines, first.total_units, first.country) == (
        "700001",
        (("10001", 8), ("10002", 12)),
        20,
        "GB",
    )
    assert first.idempotency_key == "retail-invoice-700001-20001"


def test_orders_come_in_the_time_order_of_their_invoices_across_files() -> None:
    late, early = file(line("2", "A", 1, at=9)), file(line("3", "A", 1, at=1))
    assert [invoice.number for invoice in build_invoices([late, early])] == ["3", "2"]


def test_each_invoice_of_a_guest_is_a_customer_of_its_own() -> None:
    orders = build_invoices([file(line("1", "A", 1, customer=None), line("2", "A", 1, customer=None))])
    assert [order.customer.email for order in orders] == ["guest-1@retail.example", "guest-2@retail.example"]


def test_an_invoice_with_two_customers_is_an_order_for_each() -> None:
    orders = build_invoices([file(line("1", "A", 1, customer="7"), line("1", "A", 2, customer="8"))])
    assert [(order.idempotency_key, order.total_units) for order in orders] == [
        ("retail-invoice-1-7", 1),
        ("retail-invoice-1-8", 2),
    ]


def test_an_order_beyond_the_limits_of_the_api_says_which() -> None:
    many = build_invoices([file(*(line("1", f"S{n}", 1) for n in range(1001)))])[0]
    large = build_invoices([file(line("1", "A", 1_000_000), line("1", "A", 1))])[0]
    assert many.exceeded_limit
    assert "1001 different products" in many.exceeded_limit
    assert large.exceeded_limit
    assert "1000001 of A" in large.exceeded_limit
    assert build_invoices([DAY])[0].exceeded_limit is None


def test_a_product_takes_its_most_frequent_name_and_price_and_other_prices_are_counted() -> None:
    found = build_catalogue(
        [
            file(
                line("1", "A", 1, price=100),
                line("2", "A", 3, price=90),
                line("3", "A", 1, price=100, description="Y"),
                line("4", "A", 1, description=""),
            )
        ]
    )
    product = found.products["A"]
    assert (product.name, product.price, found.repriced_lines, found.price_difference) == ("X", 100, 1, 30)


def test_a_product_without_a_description_is_named_by_its_code() -> None:
    assert build_catalogue([file(line("1", "A", 1, description=""))]).products["A"].name == "A"


def test_a_category_follows_from_the_words_of_the_name() -> None:
    assert [choose_category(name) for name in ("RED CHRISTMAS BAG", "BAG, PAISLEY", "T-LIGHT HOLDER", "SOMETHING")] == [
        "christmas",
        "bags",
        "lights",
        "gifts",
    ]


def test_stock_is_what_the_sales_of_a_file_take() -> None:
    assert sum_stock_needed(DAY) == {"10001": 11, "10002": 36, "10003A": 1, "10004": 2}


def test_the_returns_of_the_day_undo_one_order_and_the_rest_is_named() -> None:
    found = match_returns([DAY], build_invoices([DAY]))
    assert undone(found) == ["700002"]
    assert [(left.invoice, left.quantity, left.order) for left in found.leftovers] == [
        ("C700010", 2, "700004"),
        ("C700011", 1, None),
        ("C700012", 5, None),
    ]


def test_an_order_is_undone_when_several_returns_together_give_all_of_it_back() -> None:
    found = matched(line("1", "A", 3), line("1", "B", 1), line("C2", "A", 3, at=5), line("C3", "B", 1, at=7))
    assert [(each.order.number, each.return_numbers, each.time) for each in found.cancellations] == [
        ("1", ("C2", "C3"), START + timedelta(minutes=7))
    ]
    assert found.leftovers == []


def test_one_return_may_undo_several_orders() -> None:
    found = matched(line("1", "A", 3), line("2", "B", 1), line("C3", "A", 3, at=5), line("C3", "B", 1, at=5))
    assert sorted(undone(found)) == ["1", "2"]


def test_the_order_that_a_return_gives_back_exactly_comes_first() -> None:
    assert undone(
        matched(
            line("1", "A", 2),
            line("1", "B", 2),
            line("2", "A", 2, at=1),
            line("C3", "A", 2, at=5),
            line("C3", "B", 2, at=5),
        )
    ) == ["1"]


def test_of_two_equal_orders_the_later_is_undone() -> None:
    assert undone(matched(line("1", "A", 2), line("2", "A", 2, at=1), line("C3", "A", 2, at=5))) == ["2"]


def test_nothing_is_undone_by_a_part_another_customer_a_guest_or_an_earlier_return() -> None:
    assert undone(matched(line("1", "A", 2), line("C2", "A", 1, at=5))) == []
    assert undone(matched(line("1", "A", 2), line("C2", "A", 2, at=5, customer="other"))) == []
    assert undone(matched(line("1", "A", 2, customer=None), line("C2", "A", 2, at=5, customer=None))) == []
    assert undone(matched(line("1", "A", 2, at=6), line("C2", "A", 2, at=5))) == []


SKUS = st.sampled_from("ABC")
LINES = st.lists(
    st.builds(
        lambda back, n, sku, quantity, at, customer: line(
            f"{'C' if back else ''}{n}{customer}", sku, quantity, at=at, customer=customer
        ),
        st.booleans(),
        st.integers(1, 4),
        SKUS,
        st.integers(1, 4),
        st.integers(0, 9),
        st.sampled_from("xy"),
    ),
    max_size=14,
)


@given(LINES)
def test_every_unit_that_comes_back_undoes_an_order_or_is_named_as_left(lines: list[SalesLine]) -> None:
    found = matched(*lines)
    orders = {order.number: order for order in build_invoices([file(*lines)])}
    came_back: Counter[str] = Counter()
    for each in lines:
        came_back[each.sku] += each.quantity if each.is_return else 0
    accounted: Counter[str] = Counter()
    for cancellation in found.cancellations:
        accounted.update(dict(cancellation.order.lines))
    for left in found.leftovers:
        accounted[left.sku] += left.quantity
    assert accounted == came_back
    taken: Counter[tuple[str, str]] = Counter()
    for part in found.partial_returns:
        taken[part.order or "", part.sku] += part.quantity
    assert all(quantity <= dict(orders[number].lines)[sku] for (number, sku), quantity in taken.items())
    assert {part.order for part in found.partial_returns}.isdisjoint(undone(found))
