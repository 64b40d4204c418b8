"""Bytes of a CSV file to records with their line numbers. One broken line hurts only itself; a file that is no invoice list is refused as a whole."""

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")
MAX_SPAN = 5
"""A quoted field may hold line breaks; a quote that is still open after this many lines is a stray one, and only its own line is refused."""

BLANK = "blank line"
UNREADABLE = "not readable as CSV"
FIELDS = "wrong number of fields"


class NotAnInvoiceFile(Exception):
    """The file as a whole can't be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the file with its eight fields, trimmed, in the order of COLUMNS."""

    number: int
    invoice: str
    code: str
    description: str
    quantity: str
    date: str
    price: str
    customer: str
    country: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that is not used, and why."""

    number: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Table:
    """A file as read: `lines` counts what stands below the header; each is a record or a refusal."""

    digest: str
    encoding: str
    lines: int
    records: list[Record]
    refused: list[Refusal]


def read(content: bytes) -> Table:
    """Raises NotAnInvoiceFile."""
    text, encoding = _decode(content)
    rows = _rows(text)
    header_line, header = next(rows, (0, None))
    if not header_line:
        raise NotAnInvoiceFile("the file is empty")
    places = _places(header if isinstance(header, list) else [])
    width = len(header or [])
    records: list[Record] = []
    refused: list[Refusal] = []
    lines = 0
    for number, row in rows:
        lines += 1
        if isinstance(row, str):
            refused.append(Refusal(number, BLANK if not row else UNREADABLE, row))
        elif len(row) != width:
            refused.append(Refusal(number, FIELDS, f"{len(row)} instead of {width}"))
        else:
            records.append(Record(number, *(row[place].strip() for place in places)))
    return Table(hashlib.sha256(content).hexdigest(), encoding, lines, records, refused)


def _decode(content: bytes) -> tuple[str, str]:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", errors="replace"), "utf-16"
    try:
        return content.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return content.decode("latin-1"), "latin-1"


def _rows(text: str) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and fields; instead of fields the error text for what is not CSV, and an empty text for a blank line."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[-1] == "":
        lines.pop()
    at = 0
    while at < len(lines):
        row, span = _row(lines, at) if lines[at].strip() else ("", 1)
        yield at + 1, row
        at += span


def _row(lines: Sequence[str], at: int) -> tuple[list[str] | str, int]:
    problem = ""
    for span in range(1, min(MAX_SPAN, len(lines) - at) + 1):
        try:
            return next(csv.reader(["\n".join(lines[at : at + span])], strict=True)), span
        except csv.Error as error:
            problem = problem or str(error)
            if "unexpected end" not in str(error):
                break
    return problem, 1


def _places(header: list[str]) -> list[int]:
    names = [name.strip().lower() for name in header]
    missing = [column for column in COLUMNS if column.lower() not in names]
    if missing:
        found = ", ".join(name.strip() for name in header[:20])[:300] or "no names at all"
        hint = "; the columns must be separated by commas" if len(header) == 1 and (";" in found or "\t" in found) else ""
        raise NotAnInvoiceFile(f"the header lacks {', '.join(missing)}; it has {found}{hint}")
    return [names.index(column.lower()) for column in COLUMNS]
