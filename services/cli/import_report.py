"""What became of the lines of invoice files, how they were read, and what the shop got: as tables and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.money import format_amount
from services.cli.retail.catalogue import Catalogue
from services.cli.retail.lines import InvoiceFile, reasons
from services.cli.terminal import print_json, print_table

NAMED = 5
"""So many line numbers are printed for each reason."""
SAMPLE = 5
"""So many lines are shown as they were read."""


@dataclass(frozen=True, slots=True)
class Brought:
    """What an import changed in the shop."""

    products: int
    new_customers: int
    known_customers: int
    units: int
    files_stocked: int
    files_stocked_before: int


def report(files: Sequence[InvoiceFile], found: Catalogue, brought: Brought | None, output: str, *, sample: bool = False) -> None:
    """How the files were read, what became of their lines and why, and what the shop got."""
    if output == "json":
        print_json(as_json(files, found, brought))
        return
    for file in files:
        if file.layout:
            notes = [
                (note.what, note.how, f"{note.why} ({note.option})".strip() if note.option else note.why)
                for note in file.layout.assumptions
            ]
            print_table(f"How {file.name} is read", ("what", "how", "why (option to say otherwise)"), notes)
        if sample:
            _show_sample(file)
    rows: list[tuple[object, ...]] = [(file.name, *_counts(file)) for file in files]
    if len(files) > 1:
        rows.append(("all", *(sum(column) for column in zip(*map(_counts, files), strict=True))))
    refused = sum(len(file.refused) for file in files)
    print_table(
        "Lines: read = sale + return + refused + going on a row above + in a file before",
        ("file", "#read", "#sale", "#return", "#refused", "#going on", "#before"),
        rows,
    )
    if refused:
        print_table(
            "Refused",
            ("reason", "#lines", "first of them"),
            [(reason, count, _first_lines(files, reason)) for reason, count in reasons(files).most_common()],
        )
    facts: list[tuple[str, object]] = [
        ("products", len(found.products)),
        ("customers (each invoice of a guest is one)", len(found.customers)),
        ("sales lines priced at the catalogue, because the file has another price", found.repriced),
        (
            "what the catalogue's prices make of these lines, less the file's",
            f"{format_amount(found.difference, found.currency)} {found.currency}",
        ),
    ]
    if brought:
        facts += [
            ("customers that were new, known", f"{brought.new_customers:,}, {brought.known_customers:,}"),
            ("units received into stock", brought.units),
            ("files whose stock was received before", brought.files_stocked_before),
        ]
    print_table("Shop", ("what", "#value"), facts)


def _counts(file: InvoiceFile) -> tuple[int, ...]:
    return file.read, len(file.sales), len(file.returns), len(file.refused), file.continued, len(file.repeated)


def _show_sample(file: InvoiceFile) -> None:
    used = sorted((*file.sales, *file.returns), key=lambda line: line.number)
    rows = [
        (
            str(line.number),
            line.invoice,
            "return" if line.returned else "sale",
            line.sku,
            line.quantity,
            format_amount(line.price, file.currency),
            f"{line.time:%Y-%m-%d %H:%M}",
            line.customer or "guest",
        )
        for line in used[:SAMPLE]
    ]
    if rows:
        print_table("The first lines as read", ("line", "invoice", "is a", "code", "#quantity", "#price", "date (UTC)", "customer"), rows)


def _first_lines(files: Sequence[InvoiceFile], reason: str) -> str:
    several = len(files) > 1
    found = [(file, refusal) for file in files for refusal in file.refused if refusal.reason == reason]
    places = [
        f"{Path(file.name).name + ':' if several else 'line '}{refusal.number}" + (f" ({refusal.detail[:40]})" if refusal.detail else "")
        for file, refusal in found[:NAMED]
    ]
    return ", ".join(places) + (", …" if len(found) > NAMED else "")


def as_json(files: Sequence[InvoiceFile], found: Catalogue, brought: Brought | None) -> dict[str, Any]:
    return {
        "files": [
            {
                "name": file.name,
                "digest": file.digest,
                "encoding": file.encoding,
                "currency": file.currency,
                "read_as": [{"what": note.what, "how": note.how, "why": note.why} for note in file.layout.assumptions]
                if file.layout
                else [],
                "read": file.read,
                "continued": file.continued,
                "repeated": len(file.repeated),
                "used": {"sale": len(file.sales), "return": len(file.returns)},
                "refused": {
                    reason: {"lines": count, "first": [refusal.number for refusal in file.refused if refusal.reason == reason][:NAMED]}
                    for reason, count in reasons([file]).most_common()
                },
            }
            for file in files
        ],
        "products": len(found.products),
        "customers": len(found.customers),
        "repriced": {"lines": found.repriced, "difference": {"amount": found.difference, "currency": found.currency}},
        "brought": None
        if brought is None
        else {
            "new_customers": brought.new_customers,
            "known_customers": brought.known_customers,
            "units": brought.units,
            "files_stocked": brought.files_stocked,
            "files_stocked_before": brought.files_stocked_before,
        },
    }
