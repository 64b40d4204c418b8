"""Chooses how a file's numbers, dates and prices are read: by the user's options, else by the survey of its lines."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from caravan.money import MINOR_DIGITS
from cli.retail.date_order import find_set_order, is_closer_day_first
from cli.retail.reader import NotAnInvoiceFile
from cli.retail.survey import Survey
from cli.retail.timestamps import MAX_CELL_LENGTH, DateOrder
from cli.retail.values import AMBIGUOUS_CURRENCIES, Decimals, detect_currencies

DEFAULT_CURRENCY = "GBP"


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What the user says of the files; all else is found out."""

    delimiter: str | None = None
    encoding: str | None = None
    decimals: Decimals | None = None
    date_order: DateOrder | None = None
    currency: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumption:
    subject: str
    reading: str
    reason: str
    option: str = ""


def choose_decimals(survey: Survey, options: ReadingOptions) -> tuple[Decimals, Decimals, Assumption]:
    """Each column by its own values; one that does not tell goes by the other."""
    if options.decimals:
        return options.decimals, options.decimals, Assumption("decimals", options.decimals, "given", "--decimal")
    columns = {"price": survey.prices, "quantity": survey.quantities}
    decimals_by_column = {name: evidence.choose_winner("point", "comma") for name, evidence in columns.items()}
    for name, evidence in columns.items():
        if decimals_by_column[name] == "":
            raise NotAnInvoiceFile(
                f"each {name} is written with a point ({evidence.first_values['point']}) or with a comma "
                f"({evidence.first_values['comma']});"
                " say which separates decimals: --decimal point or --decimal comma"
            )
    for name, other in (("price", "quantity"), ("quantity", "price")):
        if decimals_by_column[name] is None and columns[name].counts["either"] and not decimals_by_column[other]:
            raise NotAnInvoiceFile(
                f"the {name} {columns[name].first_values['either']} may be thousands or decimals, and no other line "
                "tells;"
                " say which separates decimals: --decimal point or --decimal comma"
            )
    price = decimals_by_column["price"] or decimals_by_column["quantity"] or "point"
    quantity = decimals_by_column["quantity"] or price
    reason = next(
        (evidence.first_values[winner] for name, evidence in columns.items() if (winner := decimals_by_column[name])),
        "no number has any",
    )
    reading = price if price == quantity else f"{price} in prices, {quantity} in quantities"
    return cast(Decimals, price), cast(Decimals, quantity), Assumption("decimals", reading, reason, "--decimal")


def choose_dates(survey: Survey, options: ReadingOptions, is_set: bool) -> tuple[DateOrder, Assumption]:
    evidence = survey.dates
    if options.date_order:
        return options.date_order, Assumption("dates", options.date_order, "given", "--dates")
    date_order = evidence.choose_winner("day-first", "month-first")
    if date_order:
        return cast(DateOrder, date_order), Assumption(
            "dates", date_order, evidence.first_values[date_order], "--dates"
        )
    if date_order == "":
        raise NotAnInvoiceFile(
            f"some dates are day-first ({evidence.first_values['day-first']}), others month-first "
            f"({evidence.first_values['month-first']});"
            " say how to read them: --dates day-first or --dates month-first"
        )
    if is_set and (set_order := find_set_order(survey.unclear_dates)):
        return set_order, Assumption("dates", set_order, "the data set's invoice numbers are of that time", "--dates")
    if evidence.counts["either"] and (not is_set or is_closer_day_first(survey.unclear_dates)):
        raise NotAnInvoiceFile(
            f"the date {evidence.first_values['either']} may begin with the day or with the month, and no other line "
            "tells;"
            " say which: --dates day-first or --dates month-first"
        )
    if evidence.counts["either"]:
        return "month-first", Assumption(
            "dates", "month-first", "the data set writes them so; no line tells otherwise", "--dates"
        )
    return "month-first", Assumption("dates", "as written", "each tells its day and month itself", "--dates")


def choose_currency(survey: Survey, options: ReadingOptions, header: str) -> tuple[str, Assumption]:
    if options.currency:
        code, reason = options.currency.upper(), "given"
    elif survey.currencies:
        if survey.currencies.keys() <= {AMBIGUOUS_CURRENCIES}:
            raise NotAnInvoiceFile(
                f"the prices are in kr, which may be {', '.join(AMBIGUOUS_CURRENCIES)}; say which: --currency "
                f"{AMBIGUOUS_CURRENCIES[0]}"
            )
        lines = {
            meant[0]: sum(count for codes, count in survey.currencies.items() if meant[0] in codes)
            for meant in survey.currencies
        }
        code, count = max(lines.items(), key=lambda line: line[1])
        others = survey.currencies.total() - count
        reason = f"{count:,} lines say so" + (f", {others:,} another, which are refused" if others else "")
    elif header_code := _find_header_currency(header):
        code, reason = header_code, f"the header says {header}"
    else:
        code, reason = DEFAULT_CURRENCY, "nothing in the file names one"
    if code not in MINOR_DIGITS:
        raise NotAnInvoiceFile(f"{code[:20]} is no currency; name the file's by its code: --currency EUR")
    return code, Assumption("currency", code, reason, "--currency")


def _find_header_currency(header: str) -> str | None:
    """The one that the header of the prices names, as in `Einzelpreis (€)`, `Price in CHF`; of a sign the likeliest."""
    words = re.findall(r"[^\W\d_]+|[^\w\s()\[\].,:/]+", header[:MAX_CELL_LENGTH])
    codes_found = [
        codes[0] for word in words if (word.isupper() or not word.isalpha()) and (codes := detect_currencies(word))
    ]
    return codes_found[0] if codes_found else None
