"""Invoice files as the shops of this world export them: one set of sales, written in ten ways, each with the totals
that are right.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from cli.retail.conventions import ReadingOptions

RETAIL = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
NOBODY = ("", "nan", "NaN", "NULL", "null", "None", "NA", "#N/A", "0", "-", "n/a", "(null)", "0.0", "\\N", "<NA>")


@dataclass(frozen=True)
class Sale:
    invoice: str
    sku: str
    description: str
    quantity: int
    time: datetime
    price: Decimal
    customer: str | None
    country: str = "United Kingdom"


def sales(*, skus: Sequence[str] = ("10001", "10002A", "22423"), first: int = 700001, days: int = 28) -> list[Sale]:
    """Sixty lines of twenty invoices, every third of a guest; one quantity and one price are above a thousand."""
    start = datetime(2011, 3, 1, 9, 30)
    found = []
    for n in range(60):
        number = n // 3
        found.append(
            Sale(
                str(first + number),
                skus[n % len(skus)],
                f"THING {n % 5}",
                1200 if n == 7 else n % 6 + 1,
                start + timedelta(days=number % days),
                Decimal("1234.50") if n == 20 else Decimal(n % 7 * 100 + 55) / 100,
                None if number % 3 == 2 else str(20001 + number % 4),
            )
        )
    return found


def point(number: Decimal | int) -> str:
    return str(number)


def comma(number: Decimal | int) -> str:
    return str(number).replace(".", ",")


def group_digits(number: Decimal | int) -> str:
    return f"{number:,}"


def continental(number: Decimal | int) -> str:
    return f"{number:,}".translate(str.maketrans(",.", ".,"))


@dataclass(frozen=True)
class Style:
    """How a shop writes."""

    header: Sequence[str] = RETAIL
    delimiter: str = ","
    number: Callable[[Decimal | int], str] = point
    date: str = "%Y-%m-%d %H:%M:%S"
    encoding: str = "utf-8"
    end: str = "\n"
    mark: bytes = b""
    nobody: Sequence[str] = ("",)
    price: str = "{}"
    invoice: str = "{}"

    def write(self, lines: Sequence[Sale]) -> bytes:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=self.delimiter, lineterminator=self.end)
        writer.writerow(self.header)
        for n, sale in enumerate(lines):
            customer = sale.customer if sale.customer is not None else self.nobody[n % len(self.nobody)]
            moment = sale.time.strftime(self.date)
            price = self.price.format(self.number(sale.price))
            row = [
                self.invoice.format(sale.invoice),
                sale.sku,
                sale.description,
                self.number(sale.quantity),
                moment,
                price,
                customer,
            ]
            writer.writerow([*row, sale.country][: len(self.header)])
        return self.mark + out.getvalue().encode(self.encoding)


@dataclass(frozen=True)
class ShopFile:
    name: str
    content: bytes
    lines: Sequence[Sale]
    """What it says, however it is written."""
    refused: int = 0
    continued: int = 0
    currency: str = "GBP"
    options: ReadingOptions = field(default_factory=ReadingOptions)

    @property
    def units(self) -> int:
        return sum(sale.quantity for sale in self.lines if sale.quantity > 0)

    @property
    def value(self) -> int:
        return sum(sale.quantity * int(sale.price * 100) for sale in self.lines if sale.quantity > 0)


GERMAN = (
    "Rechnungsnr.",
    "Artikel-Nr.",
    "Bezeichnung",
    "Menge",
    "Rechnungsdatum",
    "Einzelpreis (€)",
    "Kundennr.",
    "Land",
)
SHOPIFY = (
    "Name",
    "Lineitem sku",
    "Lineitem name",
    "Lineitem quantity",
    "Created at",
    "Lineitem price",
    "Email",
    "Shipping Country",
)
PLAIN = ("order_id", "sku", "product_name", "qty", "order_date", "unit_price", "customer_id")


def shop_files() -> list[ShopFile]:
    usual = sales()
    words = [replace(sale, description="Tasse „blau“ – 5 € … ’s", country="Deutschland") for sale in usual]
    across = [
        replace(sale, description='BIG "RED"\nTIN, ROUND\nWITH LID') if n % 10 == 0 else sale
        for n, sale in enumerate(usual)
    ]
    short = [replace(sale, invoice=f"CAB{sale.invoice[-2:]}") for sale in sales(skus=("TEA", "A1", "MUG-BLUE", "M"))]
    back = [*short, replace(short[0], quantity=-1, invoice="CR9")]
    mails = [replace(sale, customer=sale.customer and f"buyer.{sale.customer}@mail.example") for sale in usual]
    stray = Style().write(usual).replace(b"THING 1,", b'"THING 1,', 1).replace(b"THING 3,", b'THING 3",', 1)
    of_the_set = (
        Style(delimiter=";", number=comma, date="%m-%d-%Y %H:%M", end="\r\n").write(sales(days=9)) + b";;;;;;;\r\n"
    )
    return [
        ShopFile(
            "german",
            Style(GERMAN, ";", continental, "%d.%m.%Y %H:%M", "cp1252", "\r\n").write(words),
            words,
            currency="EUR",
        ),
        ShopFile("british", Style(date="%d/%m/%Y %H:%M", end="\r\n", mark=b"\xef\xbb\xbf").write(usual), usual),
        ShopFile("american", Style(date="%m/%d/%y %I:%M %p", price="${}").write(usual), usual, currency="USD"),
        ShopFile("nobodies", Style(nobody=NOBODY).write(usual), usual),
        ShopFile("across lines", Style(end="\r\n").write(across), across, continued=12),
        ShopFile("stray quotes", stray, [sale for n, sale in enumerate(usual) if n != 1], refused=1),
        ShopFile("tabs", Style(PLAIN, "\t", encoding="utf-16").write(usual), usual),
        ShopFile("thousands", Style(number=group_digits, price="£{}", date="%d %b %Y").write(usual), usual),
        ShopFile("short codes", Style(invoice="{}").write(back), back),
        ShopFile(
            "shopify", Style(SHOPIFY, date="%Y-%m-%d %H:%M:%S +0000", invoice="#{}", nobody=("",)).write(mails), mails
        ),
        ShopFile("the set, saved by a spreadsheet", of_the_set, sales(days=9), refused=1),
        ShopFile(
            "one day, asked for",
            Style(date="%d/%m/%Y").write(sales(days=1)),
            sales(days=1),
            options=ReadingOptions(date_order="day-first"),
        ),
    ]
