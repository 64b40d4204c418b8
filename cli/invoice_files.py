"""The invoice files of `caravan import` and `caravan replay`: their options, reading each content once, and whether all
of it was used.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from cli.retail.conventions import ReadingOptions
from cli.retail.layout import DELIMITERS, parse_columns
from cli.retail.lines import InvoiceFile, classify_file, drop_repeated_lines
from cli.retail.reader import NotAnInvoiceFile
from cli.retail.timestamps import DateOrder
from cli.retail.values import Decimals
from cli.terminal import exit_with_error, print_note


def parse_options(
    delimiter: str | None,
    encoding: str | None,
    decimal: Decimals | None,
    dates: DateOrder | None,
    currency: str | None,
    columns: Sequence[str] | None,
) -> ReadingOptions:
    delimiter_char = next((sign for sign, name in DELIMITERS.items() if name == delimiter), delimiter)
    if delimiter_char is not None and (len(delimiter_char) != 1 or delimiter_char in '"\r\n'):
        exit_with_error(f"--delimiter {delimiter}: write {', '.join(DELIMITERS.values())}, or one sign")
    try:
        return ReadingOptions(delimiter_char, encoding, decimal, dates, currency, parse_columns(columns or ()))
    except NotAnInvoiceFile as error:
        exit_with_error(str(error))


def check_files_used(files: Sequence[InvoiceFile]) -> bool:
    """Whether every file had something to use, and every line is accounted for; says what is wrong."""
    is_good = True
    for file in files:
        if not file.is_accounted_for:
            print_note(f"{file.name}: lines read and lines accounted for differ: this is an error of the program")
        elif not file.sales and not file.returns and not file.repeated_lines:
            print_note(
                f"{file.name}: none of its {file.line_count:,} lines can be used. `caravan import --explain` shows "
                "how it is read."
            )
        else:
            continue
        is_good = False
    return is_good


def read_files(paths: Iterable[Path], options: ReadingOptions) -> list[InvoiceFile]:
    """Each different content once, and each line that several files have; a file that is no invoice list ends the
    command.
    """
    by_digest: dict[str, InvoiceFile] = {}
    for path in paths:
        try:
            file = classify_file(str(path), path.read_bytes(), options)
        except NotAnInvoiceFile as error:
            exit_with_error(f"{path}: {error}")
        if file.digest in by_digest:
            print_note(f"{path} is the same as {by_digest[file.digest].name}: read once")
        by_digest.setdefault(file.digest, file)
    files = drop_repeated_lines(list(by_digest.values()))
    currencies = sorted({file.currency for file in files})
    if len(currencies) > 1:
        exit_with_error(
            f"the files are in {', '.join(currencies)}: import those of each currency by themselves, or say --currency"
        )
    return files
