"""How a file is to be read, found out from the file as a whole before any line is used: columns, decimals, order of dates, currency, rules.

What the file does not tell is asked for, by an option; never guessed line by line.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from caravan.money import MINOR_DIGITS
from services.cli.retail.columns import NAMES, NONE, OPTIONAL, SHOWN, find_missing, locate, simplify
from services.cli.retail.dates import find_set_order, is_closer_day_first
from services.cli.retail.moments import LONGEST, DateOrder, date_order_of, is_day_number
from services.cli.retail.reader import Decoded, NotAnInvoiceFile, Shape, read_rows, split_line
from services.cli.retail.values import UNCLEAR, Decimals, currencies_in, decimals_of, is_no_customer, is_nothing

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
HEADER_LINES = 20
"""A header stands in one of the first so many lines; titles may stand above it."""
CURRENCY = "GBP"
UNCLEAR_KEPT = 5_000
OUTNUMBERED = 20
"""So many times more lines of one convention make the other a typing error."""
STRAYS = 0.05
"""So many of its codes may look otherwise in a file of the Online Retail set."""
_SET_INVOICE = re.compile(r"[AC]?[0-9]{4,10}")
_SET_CODE = re.compile(r"[0-9]{4,10}[A-Z]{0,5}")
_SET_OTHER_CODE = re.compile(r"POST|DOT|[BDMS]|C[23]|BANK CHARGES|AMAZON ?FEE|CRUK|PADS|ADJUST[0-9]?|TEST[0-9]+|SP[0-9]+|GIFT.*|DCGS.*")
_SET_COLUMNS = {simplify(SHOWN[name]) for name in ("sku", "description", "quantity", "date", "country")} | {"customerid"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the user says of the files; all else is found out."""

    delimiter: str | None = None
    encoding: str | None = None
    decimals: Decimals | None = None
    dates: DateOrder | None = None
    currency: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assumption:
    what: str
    how: str
    why: str
    option: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """`columns` are indices; `is_retail_set`: the rules of the Online Retail data set hold, for what is no goods and what is a return."""

    delimiter: str
    header: int
    width: int
    columns: Mapping[str, int]
    price_decimals: Decimals = "point"
    quantity_decimals: Decimals = "point"
    dates: DateOrder = "month-first"
    currency: str = CURRENCY
    is_retail_set: bool = False
    assumptions: tuple[Assumption, ...] = ()

    @property
    def shape(self) -> Shape:
        needed = [index for name, index in self.columns.items() if name not in OPTIONAL]
        return Shape(self.width, max(needed, default=self.width - 1) + 1, self.delimiter)


@dataclass(slots=True)
class _Evidence:
    """How many values speak for what, and the first of each."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str | None, text: str, number: int) -> None:
        if what:
            self.counts[what] += 1
            self.first.setdefault(what, f"{text[:40]} in line {number}")

    def winner(self, one: str, other: str) -> str | None:
        """The convention of the file; empty when its lines contradict each other, None when none of them tells."""
        more, less = sorted((one, other), key=lambda name: -self.counts[name])
        if not self.counts[more]:
            return None
        return more if self.counts[more] >= OUTNUMBERED * self.counts[less] else ""


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
    shapes: Counter[str] = field(default_factory=Counter)
    unclear: dict[tuple[str, str], int] = field(default_factory=dict)
    """Line by invoice and date, where the date may be either: the first of them."""


def find_layout(decoded: Decoded, options: Options) -> Layout:
    """Raises NotAnInvoiceFile."""
    lines = decoded.lines
    if not any(line.strip() for line in lines):
        raise NotAnInvoiceFile("the file is empty")
    unknown = sorted(set(options.columns) - set(NAMES))
    if unknown:
        raise NotAnInvoiceFile(f"--column {unknown[0]}=…: there is no such column; there are {', '.join(NAMES)}")
    delimiter, header, names = _find_header(lines, options)
    columns = locate(names, options.columns)
    missing = find_missing(columns, options.columns)
    if missing:
        found = ", ".join(names[:20])[:300] or "no names at all"
        raise NotAnInvoiceFile(
            f"the header lacks {', '.join(missing)}; it has {found}. Say which column is which (--column sku=ArtNo,"
            " --column customer=none) or how columns are separated (--delimiter tab)"
        )
    start = Layout(delimiter, header, len(names), columns)
    survey = _survey(decoded, start)
    is_set = _is_retail_set(names, survey)
    price, quantity, decimal_note = _choose_decimals(survey, options)
    dates, date_note = _choose_dates(survey, options, is_set)
    currency, currency_note = _choose_currency(survey, options, names[columns["price"]])
    said = "; ".join(f"{SHOWN[name]}: {names[index]}" for name, index in columns.items() if simplify(SHOWN[name]) != simplify(names[index]))
    absent = [SHOWN[name] for name in NAMES if name not in columns and name != "currency"]
    notes = [
        Assumption("encoding", decoded.encoding, decoded.why, "--encoding"),
        Assumption("columns separated by", DELIMITERS.get(delimiter, delimiter), f"the header is line {header}", "--delimiter"),
        Assumption("columns", said or "by their usual names", f"none for {', '.join(absent)}" if absent else "", "--column"),
        decimal_note,
        date_note,
        currency_note,
        Assumption(
            "rules",
            "the Online Retail data set's" if is_set else "of any shop: a negative quantity is a return, every code is goods",
            "its columns, and the shape of its numbers and codes" if is_set else "",
        ),
    ]
    if survey.day_numbers:
        notes.append(Assumption("dates that are numbers", f"{survey.day_numbers:,}", "as spreadsheets count days, from 1900"))
    if survey.guests:
        spellings = ", ".join(f"{text or 'nothing'} ({count:,})" for text, count in survey.guests.most_common(12))
        notes.append(Assumption("lines of guests", f"{survey.guests.total():,}", f"the customer is {spellings}"))
    return Layout(delimiter, header, len(names), columns, price, quantity, dates, currency, is_set, tuple(notes))


def _find_header(lines: Sequence[str], options: Options) -> tuple[str, int, list[str]]:
    """Delimiter, line number and names: of the first lines and all delimiters those by which most columns are found."""
    best: tuple[int, int, int, str, list[str]] | None = None
    for index, line in enumerate(lines[:HEADER_LINES]):
        if not line.strip() or re.fullmatch(r"sep=.", line.strip(), re.IGNORECASE):
            continue
        for delimiter in [options.delimiter] if options.delimiter else DELIMITERS:
            names = split_line(line, delimiter)
            while names and not names[-1]:
                names.pop()
            rank = (len(locate(names, options.columns)), -index, len(names), delimiter, names)
            if best is None or rank[:3] > best[:3]:
                best = rank
    if best is None:
        raise NotAnInvoiceFile("the file is empty")
    return best[3], 1 - best[1], best[4]


def _survey(decoded: Decoded, layout: Layout) -> _Survey:
    survey, at = _Survey(), layout.columns
    for row in read_rows(decoded, layout.header, layout.shape):
        if row.reason:
            continue
        price, quantity, moment = row.fields[at["price"]], row.fields[at["quantity"]], row.fields[at["date"]]
        survey.prices.add(decimals_of(price, money=True), price, row.number)
        survey.quantities.add(decimals_of(quantity), quantity, row.number)
        order = date_order_of(moment)
        survey.day_numbers += is_day_number(moment)
        survey.dates.add(order, moment, row.number)
        if order == "either" and len(survey.unclear) < UNCLEAR_KEPT:
            survey.unclear.setdefault((row.fields[at["invoice"]], moment), row.number)
        named = row.fields[at["currency"]] if "currency" in at else price
        if meant := currencies_in(named):
            survey.currencies[meant] += 1
        elif "currency" in at and not is_nothing(named):
            survey.currencies[(named.upper(),)] += 1
        customer = row.fields[at["customer"]] if "customer" in at else ""
        if is_no_customer(customer):
            survey.guests[customer[:20]] += 1
        invoice, code = row.fields[at["invoice"]].upper(), row.fields[at["sku"]].upper()
        if invoice:
            survey.shapes["invoice" if _SET_INVOICE.fullmatch(invoice) else "other invoice"] += 1
        if code and "/" not in code:
            survey.shapes["code" if _SET_CODE.fullmatch(code) else "known code" if _SET_OTHER_CODE.fullmatch(code) else "other code"] += 1
    return survey


def _is_retail_set(names: Sequence[str], survey: _Survey) -> bool:
    """By its header, and by numbers and codes that look like the set's, but for a few."""
    if not {simplify(name) for name in names} >= _SET_COLUMNS:
        return False
    shapes = survey.shapes
    return (
        shapes["other invoice"] <= STRAYS * shapes["invoice"]
        and shapes["other code"] <= STRAYS * shapes["code"]
        and shapes["known code"] <= shapes["code"]
    )


def _choose_decimals(survey: _Survey, options: Options) -> tuple[Decimals, Decimals, Assumption]:
    """Each column by its own values; one that does not tell goes by the other."""
    if options.decimals:
        return options.decimals, options.decimals, Assumption("decimals", options.decimals, "given", "--decimal")
    columns = {"price": survey.prices, "quantity": survey.quantities}
    chosen = {name: evidence.winner("point", "comma") for name, evidence in columns.items()}
    for name, evidence in columns.items():
        if chosen[name] == "":
            raise NotAnInvoiceFile(
                f"each {name} is written with a point ({evidence.first['point']}) or with a comma ({evidence.first['comma']});"
                " say which separates decimals: --decimal point or --decimal comma"
            )
    for name, other in (("price", "quantity"), ("quantity", "price")):
        if chosen[name] is None and columns[name].counts["either"] and not chosen[other]:
            raise NotAnInvoiceFile(
                f"the {name} {columns[name].first['either']} may be thousands or decimals, and no other line tells;"
                " say which separates decimals: --decimal point or --decimal comma"
            )
    price = chosen["price"] or chosen["quantity"] or "point"
    quantity = chosen["quantity"] or price
    why = next((evidence.first[winner] for name, evidence in columns.items() if (winner := chosen[name])), "no number has any")
    how = price if price == quantity else f"{price} in prices, {quantity} in quantities"
    return cast(Decimals, price), cast(Decimals, quantity), Assumption("decimals", how, why, "--decimal")


def _choose_dates(survey: _Survey, options: Options, is_set: bool) -> tuple[DateOrder, Assumption]:
    evidence = survey.dates
    if options.dates:
        return options.dates, Assumption("dates", options.dates, "given", "--dates")
    chosen = evidence.winner("day-first", "month-first")
    if chosen:
        return cast(DateOrder, chosen), Assumption("dates", chosen, evidence.first[chosen], "--dates")
    if chosen == "":
        raise NotAnInvoiceFile(
            f"some dates are day-first ({evidence.first['day-first']}), others month-first ({evidence.first['month-first']});"
            " say how to read them: --dates day-first or --dates month-first"
        )
    if is_set and (found := find_set_order(survey.unclear)):
        return found, Assumption("dates", found, "the data set's invoice numbers are of that time", "--dates")
    if evidence.counts["either"] and (not is_set or is_closer_day_first(survey.unclear)):
        raise NotAnInvoiceFile(
            f"the date {evidence.first['either']} may begin with the day or with the month, and no other line tells;"
            " say which: --dates day-first or --dates month-first"
        )
    if evidence.counts["either"]:
        return "month-first", Assumption("dates", "month-first", "the data set writes them so; no line tells otherwise", "--dates")
    return "month-first", Assumption("dates", "as written", "each tells its day and month itself", "--dates")


def _choose_currency(survey: _Survey, options: Options, header: str) -> tuple[str, Assumption]:
    if options.currency:
        code, why = options.currency.upper(), "given"
    elif survey.currencies:
        if survey.currencies.keys() <= {UNCLEAR}:
            raise NotAnInvoiceFile(f"the prices are in kr, which may be {', '.join(UNCLEAR)}; say which: --currency {UNCLEAR[0]}")
        lines = {meant[0]: sum(count for codes, count in survey.currencies.items() if meant[0] in codes) for meant in survey.currencies}
        code, count = max(lines.items(), key=lambda line: line[1])
        others = survey.currencies.total() - count
        why = f"{count:,} lines say so" + (f", {others:,} another, which are refused" if others else "")
    elif found := _currency_of(header):
        code, why = found, f"the header says {header}"
    else:
        code, why = CURRENCY, "nothing in the file names one"
    if code not in MINOR_DIGITS:
        raise NotAnInvoiceFile(f"{code[:20]} is no currency; name the file's by its code: --currency EUR")
    return code, Assumption("currency", code, why, "--currency")


def _currency_of(header: str) -> str | None:
    """The one that the header of the prices names, as in `Einzelpreis (€)`, `Price in CHF`; of a sign the likeliest."""
    words = re.findall(r"[^\W\d_]+|[^\w\s()\[\].,:/]+", header[:LONGEST])
    found = [codes[0] for word in words if (word.isupper() or not word.isalpha()) and (codes := currencies_in(word))]
    return found[0] if found else None


def parse_columns(pairs: Sequence[str]) -> dict[str, str]:
    """`FIELD=HEADER`, `FIELD=none`."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, header = pair.partition("=")
        if not sign or not name.strip() or not header.strip():
            raise NotAnInvoiceFile(f"--column {pair}: write FIELD=HEADER, such as sku=ArtNo, or FIELD={NONE}")
        found[name.strip().casefold()] = header.strip()
    return found
