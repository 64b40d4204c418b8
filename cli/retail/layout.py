"""How a file is to be read, found out from the file as a whole before any line is used: columns, decimals, order of
dates, currency, rules.

What the file does not tell is asked for, by an option; never guessed line by line.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cli.retail.columns import (
    DISPLAY_NAMES,
    KNOWN_NAMES,
    NO_COLUMN,
    OPTIONAL_COLUMNS,
    find_missing,
    locate_columns,
    simplify_name,
)
from cli.retail.conventions import (
    DEFAULT_CURRENCY,
    Assumption,
    ReadingOptions,
    choose_currency,
    choose_dates,
    choose_decimals,
)
from cli.retail.reader import DecodedText, NotAnInvoiceFile, Shape, split_line
from cli.retail.survey import is_retail_set, survey_lines
from cli.retail.timestamps import DateOrder
from cli.retail.values import Decimals

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MAX_HEADER_LINES = 20
"""A header stands in one of the first so many lines; titles may stand above it."""


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
    survey = survey_lines(decoded, header, Layout(delimiter, header, len(names), columns).shape, columns)
    is_set = is_retail_set(names, survey)
    price, quantity, decimal_note = choose_decimals(survey, options)
    dates, date_note = choose_dates(survey, options, is_set)
    currency, currency_note = choose_currency(survey, options, names[columns["price"]])
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


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """`FIELD=HEADER`, `FIELD=none`."""
    header_by_field: dict[str, str] = {}
    for pair in pairs:
        name, equals, header = pair.partition("=")
        if not equals or not name.strip() or not header.strip():
            raise NotAnInvoiceFile(f"--column {pair}: write FIELD=HEADER, such as sku=ArtNo, or FIELD={NO_COLUMN}")
        header_by_field[name.strip().casefold()] = header.strip()
    return header_by_field
