"""Where the commands write: tables and JSON to stdout, progress and remarks to stderr; a bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from caravan.money import format_amount

EVERY_SECONDS = 5.0
PLAIN_WIDTH = 160

remarks = Console(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    remarks.print(text, markup=False)


def show(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table on stdout; columns whose name starts with `#` are numbers."""
    table = Table()
    for name in columns:
        table.add_column(name.removeprefix("#"), justify="right" if name.startswith("#") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, width=PLAIN_WIDTH)
    console.print(title)
    console.print(table)


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[], None]]:
    """Calls of what is yielded advance by one."""
    if remarks.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(*columns, console=remarks) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)
        return
    done, told = 0, time.monotonic()

    def advance() -> None:
        nonlocal done, told
        done += 1
        if time.monotonic() - told >= EVERY_SECONDS:
            told = time.monotonic()
            say(f"{label}: {done:,} of {total:,}")

    yield advance
    say(f"{label}: {done:,} of {total:,}")


def pounds(pence: int) -> str:
    return f"{'-' if pence < 0 else ''}£{format_amount(abs(pence), 'GBP')}"
