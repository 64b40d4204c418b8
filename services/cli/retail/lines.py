"""The rules by which each line of an invoice file is used as a sale, used as a return, or refused with a reason."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal

from caravan.email_address import is_email_address
from caravan.money import minor_digits
from caravan.text import as_line
from services.cli.retail.layout import CURRENCY, Layout, Options, find_layout
from services.cli.retail.moments import read_moment
from services.cli.retail.reader import Refusal, Row, decode, read_rows
from services.cli.retail.values import currencies_in, is_no_customer, is_nothing, read_number
from services.orders.schemas import MAX_QUANTITY

INVOICE = "bad invoice number"
CODE = "bad stock code"
QUANTITY = "bad quantity"
PRICE = "bad price"
PENCE = "price with more decimals than its currency has"
OTHER_CURRENCY = "another currency"
DATE = "bad date"
CUSTOMER = "bad customer"
NOT_GOODS = "not goods (postage, fees, discounts, samples, vouchers)"
ADJUSTMENT = "stock adjustment, not a sale"
FREE = "given away (price 0)"
POSITIVE_RETURN = "return with a positive quantity"

MAX_NAME = 200
"""Of a product in the catalogue."""
MAX_PRICE = 100_000_000
"""In minor units. A unit price above a million pounds is a typing error."""

_INVOICE = re.compile(r"[A-Z0-9](?:[A-Z0-9._/ -]{0,38}[A-Z0-9])?")
_CODE = re.compile(r"[A-Z0-9](?:[A-Z0-9._ -]{0,38}[A-Z0-9._-])?")
_GOODS = re.compile(r"(?!GIFT).*[0-9]{4}")
_NUMBER = re.compile(r"0*([0-9]{1,20})(?:[.,]0*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Line:
    """A used line. `quantity` is above zero for returns too: `returned` tells them apart. `customer` is None for a guest, `price` is in minor units.

    `identity` is the same for the same line in any export that holds it, however it was saved."""

    number: int
    invoice: str
    returned: bool
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
    """A file with a verdict on every row. `continued` lines go on a row that began above them, `repeated` rows stand in a file before this one."""

    name: str
    digest: str
    encoding: str
    read: int
    sales: list[Line]
    returns: list[Line]
    refused: list[Refusal]
    continued: int = 0
    repeated: tuple[int, ...] = ()
    layout: Layout | None = None

    @property
    def accounted(self) -> bool:
        """Every line that was read has exactly one verdict."""
        numbers = [verdict.number for verdicts in (self.sales, self.returns, self.refused) for verdict in verdicts]
        numbers += self.repeated
        return len(numbers) == len(set(numbers)) == self.read - self.continued

    @property
    def currency(self) -> str:
        return self.layout.currency if self.layout else CURRENCY


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def classify(name: str, content: bytes, options: Options | None = None) -> InvoiceFile:
    """Raises NotAnInvoiceFile when the whole file can't be used."""
    options = options or Options()
    decoded = decode(content, options.encoding)
    layout = find_layout(decoded, options)
    sales: list[Line] = []
    returns: list[Line] = []
    refused: list[Refusal] = []
    occurred: Counter[bytes] = Counter()
    lines = continued = 0
    for row in read_rows(decoded, layout.header, layout.shape):
        lines += row.span
        continued += row.span - 1
        try:
            line = judge(row, layout)
        except _Refused as verdict:
            refused.append(Refusal(row.number, verdict.reason, verdict.detail))
        else:
            line = replace(line, identity=_identify(line, layout.currency, occurred))
            (returns if line.returned else sales).append(line)
    digest = hashlib.sha256(content).hexdigest()
    return InvoiceFile(name, digest, decoded.encoding, lines, sales, returns, refused, continued, (), layout)


def leave_out_repeated(files: Sequence[InvoiceFile]) -> list[InvoiceFile]:
    """Exports overlap: a line that a file before had is not used twice."""
    known: set[str] = set()
    kept: list[InvoiceFile] = []
    for file in files:
        again = {line.number for line in (*file.sales, *file.returns) if line.identity in known}
        known.update(line.identity for line in (*file.sales, *file.returns))
        sales, returns = ([line for line in used if line.number not in again] for used in (file.sales, file.returns))
        kept.append(replace(file, sales=sales, returns=returns, repeated=tuple(sorted(again))) if again else file)
    return kept


def reasons(files: Iterable[InvoiceFile]) -> Counter[str]:
    return Counter(refusal.reason for file in files for refusal in file.refused)


def _identify(line: Line, currency: str, occurred: Counter[bytes]) -> str:
    """By what the line says and the how-manieth of its kind it is; not by its time of day, its words or its place, which saving anew may change."""
    quantity = -line.quantity if line.returned else line.quantity
    facts = (line.invoice, line.sku, quantity, line.price, currency, line.customer or "", line.time.date())
    said = hashlib.blake2b("\x1f".join(map(str, facts)).encode(), digest_size=16)
    occurred[said.digest()] += 1
    said.update(f"\x1f{occurred[said.digest()]}".encode())
    return said.hexdigest()


def judge(row: Row, layout: Layout) -> Line:
    """The first rule that a line breaks decides; the order is that of docs/import-and-replay.md."""
    if row.reason:
        raise _Refused(row.reason, row.detail)
    text = {name: row.fields[index] for name, index in layout.columns.items()}
    invoice = re.sub(r"\s+", " ", text["invoice"].upper()).removeprefix("#")
    sku = re.sub(r"\s+", " ", text["sku"].upper())
    if not _INVOICE.fullmatch(invoice):
        raise _Refused(INVOICE, text["invoice"])
    if not _CODE.fullmatch(sku):
        raise _Refused(CODE, text["sku"])
    quantity, price = _quantity(text["quantity"], layout), _price(text["price"], layout)
    moment = read_moment(text["date"], layout.dates)
    if moment is None:
        raise _Refused(DATE, text["date"])
    customer = _customer(text.get("customer", ""))
    said = currencies_in(text.get("currency", "")) or currencies_in(text["price"])
    if said and layout.currency not in said:
        raise _Refused(OTHER_CURRENCY, said[0])
    description = text.get("description", "")
    if layout.is_retail_set:
        returned = _judge_by_the_set(invoice, sku, quantity, price, customer, f"{text['sku']} {description}".strip())
    else:
        returned = quantity < 0
    if price == 0:
        raise _Refused(FREE, text["sku"])
    minor = price * 10 ** minor_digits(layout.currency)
    if minor != minor.to_integral_value():
        raise _Refused(PENCE, text["price"])
    plain = "" if is_nothing(description) else as_line(description, MAX_NAME)
    return Line(row.number, invoice, returned, sku, plain, abs(quantity), int(minor), moment, customer, text.get("country", ""))


def _judge_by_the_set(invoice: str, sku: str, quantity: int, price: Decimal, customer: str | None, shown: str) -> bool:
    """Whether it is a return, by the rules of the Online Retail set: its codes without four digits are no goods, its returns begin with C."""
    if not _GOODS.match(sku):
        raise _Refused(NOT_GOODS, sku)
    returned = re.fullmatch(r"C[0-9]+", invoice) is not None
    if (quantity < 0 and not returned) or (price == 0 and customer is None):
        raise _Refused(ADJUSTMENT, shown)
    if price and quantity > 0 and returned:
        raise _Refused(POSITIVE_RETURN, str(quantity))
    return returned


def _quantity(text: str, layout: Layout) -> int:
    number = read_number(text, layout.quantity_decimals)
    if number is None or number != number.to_integral_value() or not 1 <= abs(number) <= MAX_QUANTITY:
        raise _Refused(QUANTITY, text)
    return int(number)


def _price(text: str, layout: Layout) -> Decimal:
    number = read_number(text, layout.price_decimals, money=True)
    if number is None or not 0 <= number * 10 ** minor_digits(layout.currency) <= MAX_PRICE:
        raise _Refused(PRICE, text)
    return number


def _customer(text: str) -> str | None:
    if is_no_customer(text):
        return None
    number = _NUMBER.fullmatch(text)
    if number:
        return number[1]
    if not _NAME.fullmatch(text) and not is_email_address(text):
        raise _Refused(CUSTOMER, text)
    return text.lower()
