"""The rules by which each line of an invoice file is used as a sale, used as a return, or refused with a reason."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from caravan.email_address import is_email_address
from caravan.money import get_minor_digits
from caravan.text import clean_line
from cli.retail.conventions import DEFAULT_CURRENCY, ReadingOptions
from cli.retail.layout import Layout, find_layout
from cli.retail.reader import Refusal, Row, decode_content, read_rows
from cli.retail.timestamps import parse_timestamp
from cli.retail.values import detect_currencies, is_empty_value, is_guest, parse_number
from services.orders.schemas import MAX_QUANTITY

BAD_INVOICE_NUMBER = "bad invoice number"
BAD_STOCK_CODE = "bad stock code"
BAD_QUANTITY = "bad quantity"
BAD_PRICE = "bad price"
TOO_MANY_DECIMALS = "price with more decimals than its currency has"
OTHER_CURRENCY = "another currency"
BAD_DATE = "bad date"
BAD_CUSTOMER = "bad customer"
NOT_GOODS = "not goods (postage, fees, discounts, samples, vouchers)"
STOCK_ADJUSTMENT = "stock adjustment, not a sale"
ZERO_PRICE = "given away (price 0)"
POSITIVE_RETURN = "return with a positive quantity"

MAX_NAME_LENGTH = 200
"""Of a product in the catalogue."""
MAX_PRICE = 100_000_000
"""In minor units. A unit price above a million pounds is a typing error."""

_INVOICE = re.compile(r"[A-Z0-9](?:[A-Z0-9._/ -]{0,38}[A-Z0-9])?")
_CODE = re.compile(r"[A-Z0-9](?:[A-Z0-9._ -]{0,38}[A-Z0-9._-])?")
_GOODS = re.compile(r"(?!GIFT).*[0-9]{4}")
_NUMBER = re.compile(r"0*([0-9]{1,20})(?:[.,]0*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class SalesLine:
    """A used line. `quantity` is above zero for returns too: `returned` tells them apart. `customer` is None for a
    guest, `price` is in minor units.

    `identity` is the same for the same line in any export that holds it, however it was saved."""

    number: int
    invoice: str
    is_return: bool
    sku: str
    description: str
    quantity: int
    price: int
    time: datetime
    customer: str | None
    country: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class InvoiceFile:
    """A file with every row classified. `continued` lines go on a row that began above them, `repeated` rows stand in a
    file before this one.
    """

    name: str
    digest: str
    encoding: str
    line_count: int
    sales: list[SalesLine]
    returns: list[SalesLine]
    refusals: list[Refusal]
    continuation_count: int = 0
    repeated_lines: tuple[int, ...] = ()
    layout: Layout | None = None

    @property
    def is_accounted_for(self) -> bool:
        """Every line that was read is classified exactly once."""
        numbers = [row.number for rows in (self.sales, self.returns, self.refusals) for row in rows]
        numbers += self.repeated_lines
        return len(numbers) == len(set(numbers)) == self.line_count - self.continuation_count

    @property
    def currency(self) -> str:
        return self.layout.currency if self.layout else DEFAULT_CURRENCY


class _LineRefusal(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def classify_file(name: str, content: bytes, options: ReadingOptions | None = None) -> InvoiceFile:
    """Raises NotAnInvoiceFile when the whole file can't be used."""
    options = options or ReadingOptions()
    decoded = decode_content(content, options.encoding)
    layout = find_layout(decoded, options)
    sales: list[SalesLine] = []
    returns: list[SalesLine] = []
    refusals: list[Refusal] = []
    occurrences: Counter[bytes] = Counter()
    lines = continuation_count = 0
    for row in read_rows(decoded, layout.header_line, layout.shape):
        lines += row.line_count
        continuation_count += row.line_count - 1
        try:
            line = classify_row(row, layout)
        except _LineRefusal as refusal:
            refusals.append(Refusal(row.number, refusal.reason, refusal.detail))
        else:
            line = replace(line, identity=_identify_line(line, layout.currency, occurrences))
            (returns if line.is_return else sales).append(line)
    digest = hashlib.sha256(content).hexdigest()
    return InvoiceFile(name, digest, decoded.encoding, lines, sales, returns, refusals, continuation_count, (), layout)


def drop_repeated_lines(files: Sequence[InvoiceFile]) -> list[InvoiceFile]:
    """Exports overlap: a line that a file before had is not used twice."""
    identities: set[str] = set()
    unique_files: list[InvoiceFile] = []
    for file in files:
        repeated_numbers = {line.number for line in (*file.sales, *file.returns) if line.identity in identities}
        identities.update(line.identity for line in (*file.sales, *file.returns))
        sales, returns = (
            [line for line in used if line.number not in repeated_numbers] for used in (file.sales, file.returns)
        )
        unique_files.append(
            replace(file, sales=sales, returns=returns, repeated_lines=tuple(sorted(repeated_numbers)))
            if repeated_numbers
            else file
        )
    return unique_files


def count_reasons(files: Iterable[InvoiceFile]) -> Counter[str]:
    return Counter(refusal.reason for file in files for refusal in file.refusals)


def _identify_line(line: SalesLine, currency: str, occurrences: Counter[bytes]) -> str:
    """By what the line says and the how-manieth of its kind it is; not by its time of day, its words or its place,
    which saving anew may change.
    """
    quantity = -line.quantity if line.is_return else line.quantity
    identity_fields = (line.invoice, line.sku, quantity, line.price, currency, line.customer or "", line.time.date())
    digest = hashlib.blake2b("\x1f".join(map(str, identity_fields)).encode(), digest_size=16)
    occurrences[digest.digest()] += 1
    digest.update(f"\x1f{occurrences[digest.digest()]}".encode())
    return digest.hexdigest()


def classify_row(row: Row, layout: Layout) -> SalesLine:
    """The first rule that a line breaks decides; the order is that of docs/reference/sales-files.md."""
    if row.reason:
        raise _LineRefusal(row.reason, row.detail)
    text = {name: row.fields[index] for name, index in layout.columns.items()}
    invoice = re.sub(r"\s+", " ", text["invoice"].upper()).removeprefix("#")
    sku = re.sub(r"\s+", " ", text["sku"].upper())
    if not _INVOICE.fullmatch(invoice):
        raise _LineRefusal(BAD_INVOICE_NUMBER, text["invoice"])
    if not _CODE.fullmatch(sku):
        raise _LineRefusal(BAD_STOCK_CODE, text["sku"])
    quantity, price = _parse_quantity(text["quantity"], layout), _parse_price(text["price"], layout)
    moment = parse_timestamp(text["date"], layout.date_order)
    if moment is None:
        raise _LineRefusal(BAD_DATE, text["date"])
    customer = _parse_customer(text.get("customer", ""))
    currencies = detect_currencies(text.get("currency", "")) or detect_currencies(text["price"])
    if currencies and layout.currency not in currencies:
        raise _LineRefusal(OTHER_CURRENCY, currencies[0])
    description = text.get("description", "")
    if layout.is_retail_set:
        is_return = _is_return_in_set(invoice, sku, quantity, price, customer, f"{text['sku']} {description}".strip())
    else:
        is_return = quantity < 0
    if price == 0:
        raise _LineRefusal(ZERO_PRICE, text["sku"])
    minor = price * 10 ** get_minor_digits(layout.currency)
    if minor != minor.to_integral_value():
        raise _LineRefusal(TOO_MANY_DECIMALS, text["price"])
    plain_description = "" if is_empty_value(description) else clean_line(description, MAX_NAME_LENGTH)
    return SalesLine(
        row.number,
        invoice,
        is_return,
        sku,
        plain_description,
        abs(quantity),
        int(minor),
        moment,
        customer,
        text.get("country", ""),
    )


def _is_return_in_set(invoice: str, sku: str, quantity: int, price: Decimal, customer: str | None, text: str) -> bool:
    """Whether it is a return, by the rules of the Online Retail set: its codes without four digits are no goods, its
    returns begin with C.
    """
    if not _GOODS.match(sku):
        raise _LineRefusal(NOT_GOODS, sku)
    is_return = re.fullmatch(r"C[0-9]+", invoice) is not None
    if (quantity < 0 and not is_return) or (price == 0 and customer is None):
        raise _LineRefusal(STOCK_ADJUSTMENT, text)
    if price and quantity > 0 and is_return:
        raise _LineRefusal(POSITIVE_RETURN, str(quantity))
    return is_return


def _parse_quantity(text: str, layout: Layout) -> int:
    number = parse_number(text, layout.quantity_decimals)
    if number is None or number != number.to_integral_value() or not 1 <= abs(number) <= MAX_QUANTITY:
        raise _LineRefusal(BAD_QUANTITY, text)
    return int(number)


def _parse_price(text: str, layout: Layout) -> Decimal:
    number = parse_number(text, layout.price_decimals, money=True)
    if number is None or not 0 <= number * 10 ** get_minor_digits(layout.currency) <= MAX_PRICE:
        raise _LineRefusal(BAD_PRICE, text)
    return number


def _parse_customer(text: str) -> str | None:
    if is_guest(text):
        return None
    number = _NUMBER.fullmatch(text)
    if number:
        return number[1]
    if not _NAME.fullmatch(text) and not is_email_address(text):
        raise _LineRefusal(BAD_CUSTOMER, text)
    return text.lower()
