"""The only way to stdout and stderr: what the commands print is escaped here, because names, reasons and bodies come
from others.

Results go to stdout, progress and remarks to stderr. A value is never markup, and nothing is cut: a table that doesn't
fit becomes a list.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, NoReturn

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from caravan.printable import escape_unprintable

PROGRESS_SECONDS = 5.0
COLUMN_GAP = "  "
READABLE_WIDTH = 24
"""Text that may be broken between words gets at least so much."""


def _create_console(*, error: bool = False) -> Console:
    """A new one each time: where stdout leads may change, and making one costs little."""
    return Console(stderr=error, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_line(text: object = "", *, style: str = "", error: bool = False) -> None:
    _create_console(error=error).print(Text(escape_unprintable(str(text)), style))


def print_styled(*lines: Sequence[tuple[str, str]]) -> None:
    """Lines of texts, each with its style; many at once cost little more than one, and next to nothing where nobody
    sees a style.
    """
    console = _create_console()
    if console.is_terminal:
        texts = (Text.assemble(*((escape_unprintable(text), style) for text, style in parts)) for parts in lines)
        console.print(Text("\n").join(texts))
    else:
        print("\n".join(escape_unprintable("".join(text for text, _ in parts)) for parts in lines), flush=True)


def print_note(text: str) -> None:
    """A remark: to stderr."""
    print_line(text, error=True)


def exit_with_error(message: str) -> NoReturn:
    """End with a message that says what to do; exit status 2. The message may have several lines."""
    for line in message.split("\n"):
        print_note(line)
    raise SystemExit(2)


def print_json(value: object) -> None:
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    print("".join(sign if sign == "\n" or sign.isprintable() else _escape_in_json(sign) for sign in text))


def print_document(text: str) -> None:
    """A text of many lines that was made for a program, such as YAML."""
    print(escape_unprintable(text, keep="\n"), end="")


def _escape_in_json(char: str) -> str:
    """Such characters stand in strings only."""
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their columns, where the width allows it without breaking a word; else each row as a list of `name
    value`.

    Columns whose name starts with `#` are numbers.
    """
    cells = [[_format_cell(value) for value in row] for row in rows]
    names = [name.removeprefix("#") for name in columns]
    console = _create_console()
    if title:
        print_line(title)
    widths = _fit_widths(names, cells, console.width - len(COLUMN_GAP) * (len(names) - 1))
    if widths is None:
        for row in cells:
            _print_field_list(_gather_numbers(columns, row), console)
        return
    is_right_aligned = [column.startswith("#") for column in columns]
    for line in _lay_out_row([Text(name) for name in names], widths, is_right_aligned, console):
        console.print(Text(line, "bold"))
    console.print(Text("─" * (sum(widths) + len(COLUMN_GAP) * (len(names) - 1))))
    for row in cells:
        for line in _lay_out_row(row, widths, is_right_aligned, console):
            console.print(Text(line))
    console.print()


def _lay_out_row(
    row: Sequence[Text], widths: Sequence[int], is_right_aligned: Sequence[bool], console: Console
) -> Iterator[str]:
    """The lines that one row takes."""
    wrapped = [cell.wrap(console, width) for cell, width in zip(row, widths, strict=True)]
    for cells in zip_longest(*wrapped, fillvalue=None):
        line = [cell or Text() for cell in cells]
        for cell, width, to_the_right in zip(line, widths, is_right_aligned, strict=True):
            cell.rstrip()
            cell.align("right" if to_the_right else "left", width)
        yield COLUMN_GAP.join(cell.plain for cell in line).rstrip()


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One thing, a name and value a line."""
    _print_field_list([(name, _format_cell(value)) for name, value in fields], _create_console())


def _format_cell(value: object) -> Text:
    return Text(escape_unprintable(f"{value:,}" if isinstance(value, int) else str(value)))


def _fit_widths(names: Sequence[str], rows: Sequence[Sequence[Text]], available_width: int) -> list[int] | None:
    """The width of each column, None when a word would have to be broken. Columns of words share what is left."""
    columns = [[Text(name), *(row[index] for row in rows)] for index, name in enumerate(names)]
    natural_widths = [max(cell.cell_len for cell in column) for column in columns]
    minimal_widths = [
        max(min(READABLE_WIDTH, natural_width), *(_measure_longest_word(cell) for cell in column))
        for column, natural_width in zip(columns, natural_widths, strict=True)
    ]
    if sum(minimal_widths) > available_width:
        return None
    widths = list(minimal_widths)
    while (spare_width := available_width - sum(widths)) > 0 and (
        narrow_columns := [index for index, width in enumerate(widths) if width < natural_widths[index]]
    ):
        for index in narrow_columns:
            widths[index] = min(natural_widths[index], widths[index] + max(1, spare_width // len(narrow_columns)))
            if sum(widths) >= available_width:
                break
    return widths


def _measure_longest_word(cell: Text) -> int:
    return max((Text(word).cell_len for word in cell.plain.split(" ")), default=0)


def _gather_numbers(columns: Sequence[str], row: Sequence[Text]) -> list[tuple[str, Text]]:
    """Name and value; all numbers in one line, where the first of them stands."""
    fields = [(name, cell) for name, cell in zip(columns, row, strict=True) if not name.startswith("#")]
    numbers = [
        f"{cell.plain} {name[1:]}".strip() for name, cell in zip(columns, row, strict=True) if name.startswith("#")
    ]
    if numbers:
        position = next(index for index, name in enumerate(columns) if name.startswith("#"))
        fields.insert(position, ("", Text(", ".join(numbers))))
    return fields


def _print_field_list(fields: Sequence[tuple[str, Text]], console: Console) -> None:
    indent = max((len(name) for name, _ in fields), default=0) + len(COLUMN_GAP)
    available_width = console.width - indent
    for name, cell in fields:
        if not cell.plain:
            continue
        lines = (
            cell.wrap(console, max(READABLE_WIDTH, available_width))
            if _measure_longest_word(cell) <= available_width
            else [cell]
        )
        for number, line in enumerate(lines):
            console.print(Text(f"{'' if number else name:<{indent}}{line.plain.rstrip()}"))
    console.print()


@contextmanager
def show_progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Calls of what is yielded advance by one. A bar on a terminal, plain lines elsewhere."""
    console = _create_console(error=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(escape_unprintable(label), total=total)
            yield lambda: bar.advance(task)
        return
    done_count, reported_at = 0, time.monotonic()

    def report_step() -> None:
        nonlocal done_count, reported_at
        done_count += 1
        if time.monotonic() - reported_at >= PROGRESS_SECONDS:
            reported_at = time.monotonic()
            print_note(f"{label}: {done_count:,} of {total:,}")

    yield report_step
    print_note(f"{label}: {done_count:,} of {total:,}")


@contextmanager
def show_spinner(label: str) -> Iterator[Callable[[str], None]]:
    """What is yielded changes the words beside it."""
    columns: tuple[Any, ...] = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, transient=True, console=_create_console(error=True)) as bar:
        task = bar.add_task(escape_unprintable(label))
        yield lambda words: bar.update(task, description=escape_unprintable(words))
