"""The rules by which each line of an invoice file is used as a sale, used as a return, or refused with a reason."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from services.cli.retail.reader import Record, Refusal, read
from services.orders.schemas import MAX_QUANTITY

INVOICE = "bad invoice number"
CODE = "bad stock code"
QUANTITY = "bad quantity"
PRICE = "bad price"
PENCE = "price not in whole pence"
DATE = "bad date"
CUSTOMER = "bad customer"
NOT_GOODS = "not goods (postage, fees, discounts, samples, vouchers)"
ADJUSTMENT = "stock adjustment, not a sale"
FREE = "given away (price 0)"
POSITIVE_RETURN = "return with a positive quantity"

MAX_PRICE = 100_000_000
"""In pence. A unit price above a million pounds is a typing error."""

_INVOICE = re.compile(r"[A-Z0-9-]{1,40}")
_CODE = re.compile(r"[A-Z0-9][A-Z0-9._ -]{0,39}")
_GOODS = re.compile(r"(?!GIFT).*[0-9]{4}")
_WHOLE = re.compile(r"([+-]?[0-9]{1,12})(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2})?")
_AMERICAN = re.compile(r"[0-9]{1,2}/[0-9]{1,2}/[0-9]{4} [0-9]{1,2}:[0-9]{2}")
_NUMBER = re.compile(r"0*([0-9]{1,20})(?:\.0*)?")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Line:
    """A used line. `quantity` is above zero for returns too: `returned` tells them apart. `customer` is None for a guest, `price` is in pence."""

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


@dataclass(frozen=True, slots=True)
class InvoiceFile:
    """A file with a verdict on every line."""

    name: str
    digest: str
    encoding: str
    read: int
    sales: list[Line]
    returns: list[Line]
    refused: list[Refusal]

    @property
    def accounted(self) -> bool:
        """Every line that was read has exactly one verdict."""
        numbers = [verdict.number for verdicts in (self.sales, self.returns, self.refused) for verdict in verdicts]
        return len(numbers) == len(set(numbers)) == self.read


class _Refused(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail


def classify(name: str, content: bytes) -> InvoiceFile:
    """Raises NotAnInvoiceFile when the whole file can't be used."""
    table = read(content)
    sales: list[Line] = []
    returns: list[Line] = []
    refused = list(table.refused)
    for record in table.records:
        try:
            line = judge(record)
        except _Refused as verdict:
            refused.append(Refusal(record.number, verdict.reason, verdict.detail))
        else:
            (returns if line.returned else sales).append(line)
    refused.sort(key=lambda refusal: refusal.number)
    return InvoiceFile(name, table.digest, table.encoding, table.lines, sales, returns, refused)


def reasons(files: Iterable[InvoiceFile]) -> Counter[str]:
    return Counter(refusal.reason for file in files for refusal in file.refused)


def judge(record: Record) -> Line:
    """The first rule that a line breaks decides; the order is that of docs/import-and-replay.md."""
    invoice, sku = record.invoice.upper(), re.sub(r"\s+", " ", record.code.upper())
    if not _INVOICE.fullmatch(invoice):
        raise _Refused(INVOICE, record.invoice)
    if not _CODE.fullmatch(sku):
        raise _Refused(CODE, record.code)
    quantity, price, moment, customer = _quantity(record.quantity), _pounds(record.price), _moment(record.date), _customer(record.customer)
    if not _GOODS.match(sku):
        raise _Refused(NOT_GOODS, record.code)
    returned = invoice.startswith("C")
    if (quantity < 0 and not returned) or (price == 0 and customer is None):
        raise _Refused(ADJUSTMENT, f"{record.code} {record.description}".strip())
    if price == 0:
        raise _Refused(FREE, record.code)
    if quantity > 0 and returned:
        raise _Refused(POSITIVE_RETURN, record.quantity)
    pence = price * 100
    if pence != pence.to_integral_value():
        raise _Refused(PENCE, record.price)
    description = re.sub(r"[\x00-\x20\x7f-\xa0]+", " ", record.description).strip()
    return Line(record.number, invoice, returned, sku, description, abs(quantity), int(pence), moment, customer, record.country)


def _quantity(text: str) -> int:
    found = _WHOLE.fullmatch(text)
    if not found or not 1 <= abs(int(found[1])) <= MAX_QUANTITY:
        raise _Refused(QUANTITY, text)
    return int(found[1])


def _pounds(text: str) -> Decimal:
    if not _DECIMAL.fullmatch(text) or not 0 <= Decimal(text) * 100 <= MAX_PRICE:
        raise _Refused(PRICE, text)
    return Decimal(text)


def _moment(text: str) -> datetime:
    try:
        if _ISO.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _AMERICAN.fullmatch(text):
            return datetime.strptime(text, "%m/%d/%Y %H:%M").replace(tzinfo=UTC)
    except ValueError:
        pass
    raise _Refused(DATE, text)


def _customer(text: str) -> str | None:
    if not text:
        return None
    number = _NUMBER.fullmatch(text)
    if number:
        return number[1]
    if not _NAME.fullmatch(text):
        raise _Refused(CUSTOMER, text)
    return text.lower()
