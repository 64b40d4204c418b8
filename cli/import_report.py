"""The report of an import, as tables and as JSON: how the files were read, what became of their lines, what was
created.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caravan.money import format_amount
from cli.retail.catalogue import Catalogue
from cli.retail.lines import InvoiceFile, count_reasons
from cli.terminal import print_json, print_table

MAX_LINE_NUMBERS = 5
"""So many line numbers are printed for each reason."""
SAMPLE_LINES = 5
"""So many lines are shown as they were read."""


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import changed in the shop."""

    products: int
    new_customers: int
    existing_customers: int
    units: int
    files_stocked: int
    files_stocked_before: int


def print_import_report(
    files: Sequence[InvoiceFile],
    catalogue: Catalogue,
    result: ImportResult | None,
    output: str,
    *,
    sample: bool = False,
) -> None:
    """How the files were read, what became of their lines and why, and what the shop got."""
    if output == "json":
        print_json(build_import_json(files, catalogue, result))
        return
    for file in files:
        if file.layout:
            notes = [
                (note.subject, note.reading, f"{note.reason} ({note.option})".strip() if note.option else note.reason)
                for note in file.layout.assumptions
            ]
            print_table(f"How {file.name} is read", ("what", "how", "why (option to say otherwise)"), notes)
        if sample:
            _print_sample(file)
    rows: list[tuple[object, ...]] = [(file.name, *_count_lines(file)) for file in files]
    if len(files) > 1:
        rows.append(("all", *(sum(column) for column in zip(*map(_count_lines, files), strict=True))))
    refused_count = sum(len(file.refusals) for file in files)
    print_table(
        "Lines: read = sale + return + refused + going on a row above + in a file before",
        ("file", "#read", "#sale", "#return", "#refused", "#going on", "#before"),
        rows,
    )
    if refused_count:
        print_table(
            "Refused",
            ("reason", "#lines", "first of them"),
            [
                (reason, count, _format_first_lines(files, reason))
                for reason, count in count_reasons(files).most_common()
            ],
        )
    shop_rows: list[tuple[str, object]] = [
        ("products", len(catalogue.products)),
        ("customers (each invoice of a guest is one)", len(catalogue.customers)),
        ("sales lines priced at the catalogue, because the file has another price", catalogue.repriced_lines),
        (
            "what the catalogue's prices make of these lines, less the file's",
            f"{format_amount(catalogue.price_difference, catalogue.currency)} {catalogue.currency}",
        ),
    ]
    if result:
        shop_rows += [
            ("customers that were new, known", f"{result.new_customers:,}, {result.existing_customers:,}"),
            ("units received into stock", result.units),
            ("files whose stock was received before", result.files_stocked_before),
        ]
    print_table("Shop", ("what", "#value"), shop_rows)


def _count_lines(file: InvoiceFile) -> tuple[int, ...]:
    return (
        file.line_count,
        len(file.sales),
        len(file.returns),
        len(file.refusals),
        file.continuation_count,
        len(file.repeated_lines),
    )


def _print_sample(file: InvoiceFile) -> None:
    lines = sorted((*file.sales, *file.returns), key=lambda line: line.number)
    rows = [
        (
            str(line.number),
            line.invoice,
            "return" if line.is_return else "sale",
            line.sku,
            line.quantity,
            format_amount(line.price, file.currency),
            f"{line.time:%Y-%m-%d %H:%M}",
            line.customer or "guest",
        )
        for line in lines[:SAMPLE_LINES]
    ]
    if rows:
        print_table(
            "The first lines as read",
            ("line", "invoice", "is a", "code", "#quantity", "#price", "date (UTC)", "customer"),
            rows,
        )


def _format_first_lines(files: Sequence[InvoiceFile], reason: str) -> str:
    has_several_files = len(files) > 1
    refusals = [(file, refusal) for file in files for refusal in file.refusals if refusal.reason == reason]
    positions = [
        f"{Path(file.name).name + ':' if has_several_files else 'line '}{refusal.number}"
        + (f" ({refusal.detail[:40]})" if refusal.detail else "")
        for file, refusal in refusals[:MAX_LINE_NUMBERS]
    ]
    return ", ".join(positions) + (", …" if len(refusals) > MAX_LINE_NUMBERS else "")


def build_import_json(
    files: Sequence[InvoiceFile], catalogue: Catalogue, result: ImportResult | None
) -> dict[str, Any]:
    return {
        "files": [
            {
                "name": file.name,
                "digest": file.digest,
                "encoding": file.encoding,
                "currency": file.currency,
                "read_as": [
                    {"what": note.subject, "how": note.reading, "why": note.reason} for note in file.layout.assumptions
                ]
                if file.layout
                else [],
                "read": file.line_count,
                "continued": file.continuation_count,
                "repeated": len(file.repeated_lines),
                "used": {"sale": len(file.sales), "return": len(file.returns)},
                "refused": {
                    reason: {
                        "lines": count,
                        "first": [refusal.number for refusal in file.refusals if refusal.reason == reason][
                            :MAX_LINE_NUMBERS
                        ],
                    }
                    for reason, count in count_reasons([file]).most_common()
                },
            }
            for file in files
        ],
        "products": len(catalogue.products),
        "customers": len(catalogue.customers),
        "repriced": {
            "lines": catalogue.repriced_lines,
            "difference": {"amount": catalogue.price_difference, "currency": catalogue.currency},
        },
        "brought": None
        if result is None
        else {
            "new_customers": result.new_customers,
            "known_customers": result.existing_customers,
            "units": result.units,
            "files_stocked": result.files_stocked,
            "files_stocked_before": result.files_stocked_before,
        },
    }
