"""One pass over all lines of a file, which counts what they say about its conventions. `conventions.py` chooses by
it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cli.retail.columns import DISPLAY_NAMES, simplify_name
from cli.retail.reader import DecodedText, Shape, read_rows
from cli.retail.timestamps import detect_date_order, is_day_number
from cli.retail.values import detect_currencies, detect_decimals, is_empty_value, is_guest

MAX_UNCLEAR_DATES = 5_000
MAJORITY_FACTOR = 20
"""So many times more lines of one convention make the other a typing error."""
STRAY_SHARE = 0.05
"""So many of its codes may look otherwise in a file of the Online Retail set."""
_SET_INVOICE = re.compile(r"[AC]?[0-9]{4,10}")
_SET_CODE = re.compile(r"[0-9]{4,10}[A-Z]{0,5}")
_SET_OTHER_CODE = re.compile(
    r"POST|DOT|[BDMS]|C[23]|BANK CHARGES|AMAZON ?FEE|CRUK|PADS|ADJUST[0-9]?|TEST[0-9]+|SP[0-9]+|GIFT.*|DCGS.*"
)
_SET_COLUMNS = {
    simplify_name(DISPLAY_NAMES[name]) for name in ("sku", "description", "quantity", "date", "country")
} | {"customerid"}


@dataclass(slots=True)
class _Evidence:
    """How many values speak for what, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first_values: dict[str, str] = field(default_factory=dict)

    def add_value(self, convention: str | None, text: str, number: int) -> None:
        if convention:
            self.counts[convention] += 1
            self.first_values.setdefault(convention, f"{text[:40]} in line {number}")

    def choose_winner(self, one: str, other: str) -> str | None:
        """The convention of the file; empty when its lines contradict each other, None when none of them tells."""
        more, less = sorted((one, other), key=lambda name: -self.counts[name])
        if not self.counts[more]:
            return None
        return more if self.counts[more] >= MAJORITY_FACTOR * self.counts[less] else ""


@dataclass(slots=True)
class Survey:
    """What one look at all lines tells."""

    prices: _Evidence = field(default_factory=_Evidence)
    quantities: _Evidence = field(default_factory=_Evidence)
    dates: _Evidence = field(default_factory=_Evidence)
    currencies: Counter[tuple[str, ...]] = field(default_factory=Counter)
    """By what a sign or code may mean."""
    guests: Counter[str] = field(default_factory=Counter)
    day_numbers: int = 0
    shape_counts: Counter[str] = field(default_factory=Counter)
    unclear_dates: dict[tuple[str, str], int] = field(default_factory=dict)
    """Line by invoice and date, where the date may be either: the first of them."""


def survey_lines(decoded: DecodedText, header_line: int, shape: Shape, columns: Mapping[str, int]) -> Survey:
    survey = Survey()
    for row in read_rows(decoded, header_line, shape):
        if row.reason:
            continue
        price, quantity, moment = (
            row.fields[columns["price"]],
            row.fields[columns["quantity"]],
            row.fields[columns["date"]],
        )
        survey.prices.add_value(detect_decimals(price, money=True), price, row.number)
        survey.quantities.add_value(detect_decimals(quantity), quantity, row.number)
        order = detect_date_order(moment)
        survey.day_numbers += is_day_number(moment)
        survey.dates.add_value(order, moment, row.number)
        if order == "either" and len(survey.unclear_dates) < MAX_UNCLEAR_DATES:
            survey.unclear_dates.setdefault((row.fields[columns["invoice"]], moment), row.number)
        currency_text = row.fields[columns["currency"]] if "currency" in columns else price
        if possible_codes := detect_currencies(currency_text):
            survey.currencies[possible_codes] += 1
        elif "currency" in columns and not is_empty_value(currency_text):
            survey.currencies[(currency_text.upper(),)] += 1
        customer = row.fields[columns["customer"]] if "customer" in columns else ""
        if is_guest(customer):
            survey.guests[customer[:20]] += 1
        invoice, code = row.fields[columns["invoice"]].upper(), row.fields[columns["sku"]].upper()
        if invoice:
            survey.shape_counts["invoice" if _SET_INVOICE.fullmatch(invoice) else "other invoice"] += 1
        if code and "/" not in code:
            survey.shape_counts[
                "code"
                if _SET_CODE.fullmatch(code)
                else "known code"
                if _SET_OTHER_CODE.fullmatch(code)
                else "other code"
            ] += 1
    return survey


def is_retail_set(names: Sequence[str], survey: Survey) -> bool:
    """By its header, and by numbers and codes that look like the set's, but for a few."""
    if not {simplify_name(name) for name in names} >= _SET_COLUMNS:
        return False
    shapes = survey.shape_counts
    return (
        shapes["other invoice"] <= STRAY_SHARE * shapes["invoice"]
        and shapes["other code"] <= STRAY_SHARE * shapes["code"]
        and shapes["known code"] <= shapes["code"]
    )
