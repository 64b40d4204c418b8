"""How a file is to be read, found out from the file as a whole before any line is used: columns, decimals, order of
dates, currency, rules.

What the file does not tell is asked for, by an option; never guessed line by line.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from caravan.money import MINOR_DIGITS
from cli.retail.columns import (
    DISPLAY_NAMES,
    KNOWN_NAMES,
    NO_COLUMN,
    OPTIONAL_COLUMNS,
    find_missing,
    locate_columns,
    simplify_name,
)
from cli.retail.date_order import find_set_order, is_closer_day_first
from cli.retail.reader import DecodedText, NotAnInvoiceFile, Shape, read_rows, split_line
from cli.retail.timestamps import MAX_CELL_LENGTH, DateOrder, detect_date_order, is_day_number
from cli.retail.values import (
    AMBIGUOUS_CURRENCIES,
    Decimals,
    detect_currencies,
    detect_decimals,
    is_empty_value,
    is_guest,
)

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MAX_HEADER_LINES = 20
"""A header stands in one of the first so many lines; titles may stand above it."""
DEFAULT_CURRENCY = "GBP"
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


@dataclass(frozen=True, slots=True)
class Layout:
    """`columns` are indices; `is_retail_set`: the rules of the Online Retail data set hold, for what is no goods and
    what is a return.
    """

    delimiter: str
    header_line: int
    width: int
    columns: Mapping[str, int]
    price_decimals: Decimals = "point"
    quantity_decimals: Decimals = "point"
    date_order: DateOrder = "month-first"
    currency: str = DEFAULT_CURRENCY
    is_retail_set: bool = False
    assumptions: tuple[Assumption, ...] = ()

    @property
    def shape(self) -> Shape:
        needed = [index for name, index in self.columns.items() if name not in OPTIONAL_COLUMNS]
        return Shape(self.width, max(needed, default=self.width - 1) + 1, self.delimiter)


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
class _Survey:
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


def find_layout(decoded: DecodedText, options: ReadingOptions) -> Layout:
    """Raises NotAnInvoiceFile."""
    lines = decoded.lines
    if not any(line.strip() for line in lines):
        raise NotAnInvoiceFile("the file is empty")
    unknown = sorted(set(options.columns) - set(KNOWN_NAMES))
    if unknown:
        raise NotAnInvoiceFile(f"--column {unknown[0]}=…: there is no such column; there are {', '.join(KNOWN_NAMES)}")
    delimiter, header, names = _find_header(lines, options)
    columns = locate_columns(names, options.columns)
    missing = find_missing(columns, options.columns)
    if missing:
        header_text = ", ".join(names[:20])[:300] or "no names at all"
        raise NotAnInvoiceFile(
            f"the header lacks {', '.join(missing)}; it has {header_text}. Say which column is which (--column "
            "sku=ArtNo,"
            " --column customer=none) or how columns are separated (--delimiter tab)"
        )
    initial_layout = Layout(delimiter, header, len(names), columns)
    survey = _survey_lines(decoded, initial_layout)
    is_set = _is_retail_set(names, survey)
    price, quantity, decimal_note = _choose_decimals(survey, options)
    dates, date_note = _choose_dates(survey, options, is_set)
    currency, currency_note = _choose_currency(survey, options, names[columns["price"]])
    renamed_columns = "; ".join(
        f"{DISPLAY_NAMES[name]}: {names[index]}"
        for name, index in columns.items()
        if simplify_name(DISPLAY_NAMES[name]) != simplify_name(names[index])
    )
    missing_columns = [DISPLAY_NAMES[name] for name in KNOWN_NAMES if name not in columns and name != "currency"]
    notes = [
        Assumption("encoding", decoded.encoding, decoded.reason, "--encoding"),
        Assumption(
            "columns separated by", DELIMITERS.get(delimiter, delimiter), f"the header is line {header}", "--delimiter"
        ),
        Assumption(
            "columns",
            renamed_columns or "by their usual names",
            f"none for {', '.join(missing_columns)}" if missing_columns else "",
            "--column",
        ),
        decimal_note,
        date_note,
        currency_note,
        Assumption(
            "rules",
            "the Online Retail data set's"
            if is_set
            else "of any shop: a negative quantity is a return, every code is goods",
            "its columns, and the shape of its numbers and codes" if is_set else "",
        ),
    ]
    if survey.day_numbers:
        notes.append(
            Assumption("dates that are numbers", f"{survey.day_numbers:,}", "as spreadsheets count days, from 1900")
        )
    if survey.guests:
        spellings = ", ".join(f"{text or 'nothing'} ({count:,})" for text, count in survey.guests.most_common(12))
        notes.append(Assumption("lines of guests", f"{survey.guests.total():,}", f"the customer is {spellings}"))
    return Layout(delimiter, header, len(names), columns, price, quantity, dates, currency, is_set, tuple(notes))


def _find_header(lines: Sequence[str], options: ReadingOptions) -> tuple[str, int, list[str]]:
    """Delimiter, line number and names: of the first lines and all delimiters those by which most columns are found."""
    best: tuple[int, int, int, str, list[str]] | None = None
    for index, line in enumerate(lines[:MAX_HEADER_LINES]):
        if not line.strip() or re.fullmatch(r"sep=.", line.strip(), re.IGNORECASE):
            continue
        for delimiter in [options.delimiter] if options.delimiter else DELIMITERS:
            names = split_line(line, delimiter)
            while names and not names[-1]:
                names.pop()
            rank = (len(locate_columns(names, options.columns)), -index, len(names), delimiter, names)
            if best is None or rank[:3] > best[:3]:
                best = rank
    if best is None:
        raise NotAnInvoiceFile("the file is empty")
    return best[3], 1 - best[1], best[4]


def _survey_lines(decoded: DecodedText, layout: Layout) -> _Survey:
    survey, columns = _Survey(), layout.columns
    for row in read_rows(decoded, layout.header_line, layout.shape):
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


def _is_retail_set(names: Sequence[str], survey: _Survey) -> bool:
    """By its header, and by numbers and codes that look like the set's, but for a few."""
    if not {simplify_name(name) for name in names} >= _SET_COLUMNS:
        return False
    shapes = survey.shape_counts
    return (
        shapes["other invoice"] <= STRAY_SHARE * shapes["invoice"]
        and shapes["other code"] <= STRAY_SHARE * shapes["code"]
        and shapes["known code"] <= shapes["code"]
    )


def _choose_decimals(survey: _Survey, options: ReadingOptions) -> tuple[Decimals, Decimals, Assumption]:
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


def _choose_dates(survey: _Survey, options: ReadingOptions, is_set: bool) -> tuple[DateOrder, Assumption]:
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


def _choose_currency(survey: _Survey, options: ReadingOptions, header: str) -> tuple[str, Assumption]:
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


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """`FIELD=HEADER`, `FIELD=none`."""
    header_by_field: dict[str, str] = {}
    for pair in pairs:
        name, equals, header = pair.partition("=")
        if not equals or not name.strip() or not header.strip():
            raise NotAnInvoiceFile(f"--column {pair}: write FIELD=HEADER, such as sku=ArtNo, or FIELD={NO_COLUMN}")
        header_by_field[name.strip().casefold()] = header.strip()
    return header_by_field
