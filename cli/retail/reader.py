"""Reads the bytes of a CSV file into rows with their line numbers. A broken line costs that line only."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

MAX_ROW_LINES = 40
"""A quoted field may hold line breaks; a quote that is still open after this many lines is a stray one, and only its
own line is refused.
"""

BLANK_LINE = "blank line"
UNREADABLE = "not readable as CSV"
WRONG_FIELD_COUNT = "wrong number of fields"

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
LEGACY_ENCODING = "windows-1252"


class NotAnInvoiceFile(Exception):
    """The file as a whole can't be used; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the file: the line where it begins, how many lines it has, and its fields, or the reason and detail of
    its refusal.
    """

    number: int
    line_count: int
    fields: Sequence[str]
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that is not used, and why."""

    number: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DecodedText:
    lines: list[str]
    encoding: str
    reason: str
    ended: bool
    """Whether the last line has its end: without one it may be cut off."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A row has `width` fields, of which what comes after the first `least` may be missing: exports leave out what is
    empty at the end.
    """

    width: int
    least: int
    delimiter: str


def decode_content(content: bytes, encoding: str | None) -> DecodedText:
    """By the encoding that the user names, else by the byte order mark, else UTF-8; what is no UTF-8 is Windows-1252,
    of which Latin-1 is a part.
    """
    mark = next(((mark, name) for mark, name in _MARKS if content.startswith(mark)), None)
    if encoding:
        try:
            text = content.decode(encoding)
        except (LookupError, UnicodeError) as error:
            raise NotAnInvoiceFile(f"it can't be read as {encoding}: {error}; name another --encoding") from None
        return _make_decoded_text(text.removeprefix("\ufeff"), encoding, "given")
    if mark:
        text = content[len(mark[0]) :].decode(mark[1], errors="replace")
        return _make_decoded_text(text, mark[1], "a byte order mark")
    for name, zeros in (("utf-16-le", content[1:200:2]), ("utf-16-be", content[0:200:2])):
        if len(zeros) > 3 and zeros.count(0) > 0.7 * len(zeros):
            return _make_decoded_text(content.decode(name, errors="replace"), name, "every other byte is zero")
    try:
        return _make_decoded_text(
            content.decode("utf-8"), "utf-8", "plain ASCII" if content.isascii() else "it is valid"
        )
    except UnicodeDecodeError as error:
        reason = f"byte {error.start + 1} is no UTF-8"
    invalid_positions: list[int] = []

    def read_byte(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        invalid_positions.append(error.start)
        byte = error.object[error.start : error.start + 1]
        try:
            return byte.decode(LEGACY_ENCODING), error.start + 1
        except UnicodeDecodeError:
            return byte.decode("latin-1"), error.start + 1

    codecs.register_error("caravan-legacy", read_byte)
    mixed = content.decode("utf-8", errors="caravan-legacy")
    if sum(sign > "\x7f" for sign in mixed) == len(invalid_positions):
        return _make_decoded_text(mixed, LEGACY_ENCODING, reason)
    return _make_decoded_text(
        mixed,
        f"utf-8 and {LEGACY_ENCODING}",
        f"{len(invalid_positions)} bytes are no UTF-8, the first is byte {invalid_positions[0] + 1}",
    )


def _make_decoded_text(text: str, encoding: str, why: str) -> DecodedText:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    return DecodedText(lines, encoding, why, ended)


def read_rows(decoded: DecodedText, start: int, shape: Shape) -> Iterator[Row]:
    """The rows from the line with the index `start` on. A last row that may be cut off has all its fields, or is
    refused.
    """
    index = start
    complete_shape = replace(shape, least=shape.width)
    while index < len(decoded.lines):
        row = _read_row(decoded.lines, index, shape)
        if not decoded.ended and index + row.line_count == len(decoded.lines):
            row = _read_row(decoded.lines, index, complete_shape)
        yield row
        index += row.line_count


def split_line(line: str, delimiter: str) -> list[str]:
    """The trimmed fields of one line by itself; of a broken one what can be had."""
    if '"' not in line:
        return [field.strip() for field in line.split(delimiter)]
    try:
        return [field.strip() for field in next(csv.reader([line], delimiter=delimiter))]
    except csv.Error:
        return [field.strip() for field in line.split(delimiter)]


def _read_row(lines: Sequence[str], index: int, shape: Shape) -> Row:
    """A quoted field goes on in the next line, unless that line has all the columns of a row itself: then the quote is
    a stray one.
    """
    line, number, delimiter = lines[index], index + 1, shape.delimiter
    if not line.strip(f" \t\x00\"'{delimiter}"):
        return Row(number, 1, (), BLANK_LINE)
    if '"' not in line:
        return _fit_fields(number, 1, line.split(delimiter), shape)
    problem = "a quote is opened and not closed"
    for span in range(1, min(MAX_ROW_LINES, len(lines) - index) + 1):
        if span > 1 and lines[index + span - 1].count(delimiter) >= shape.width - 1:
            break
        try:
            fields = next(csv.reader(["\n".join(lines[index : index + span])], strict=True, delimiter=delimiter))
        except csv.Error as error:
            if "unexpected end" in str(error):
                continue
            problem = str(error)
            break
        row = _fit_fields(number, span, fields, shape)
        if span == 1 or not row.reason:
            return row
        break
    return Row(number, 1, (), UNREADABLE, problem)


def _fit_fields(number: int, span: int, fields: list[str], shape: Shape) -> Row:
    """Trimmed, and without the quotes of `="00123"`; empty fields too many at the end are how spreadsheets save."""
    while len(fields) > shape.width and not fields[-1].strip():
        fields.pop()
    if not shape.least <= len(fields) <= shape.width:
        return Row(number, span, (), WRONG_FIELD_COUNT, f"{len(fields)} instead of {shape.width}")
    return Row(number, span, [_trim_field(field) for field in fields] + [""] * (shape.width - len(fields)))


def _trim_field(field: str) -> str:
    field = field.strip()
    return field[2:-1].strip() if field.startswith('="') and field.endswith('"') and len(field) > 2 else field
