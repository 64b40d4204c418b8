"""The table of who may call what, and how to compare it with the shop: `roles.txt` here, and those in the folders of
the services' tests.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.gateway.reference.openapi import list_operations

TABLE = Path(__file__).parent / "roles.txt"
TABLES = (TABLE, *sorted(TABLE.parents[1].glob("services/*/roles.txt")))
COLUMNS = ("anonymous", "customer", "staff", "admin", "service")

Row = dict[str, str]
Route = tuple[str, str]


def rows() -> dict[Route, Row]:
    """Outcome by role of each method and path: `in`, or the status with which the caller is kept out."""
    found: dict[Route, Row] = {}
    for line in (line for table in TABLES for line in table.read_text().splitlines()):
        if line.strip() and not line.startswith("#"):
            method, path, *outcomes = line.split()
            assert (method, path) not in found, f"two rows for {method} {path}"
            found[method, path] = dict(zip(COLUMNS, outcomes, strict=True))
    return found


def routes(document: dict[str, Any]) -> set[Route]:
    return {(method.upper(), path) for path, method, _ in list_operations(document)}


def unlike(table: Iterable[Route], declared: Iterable[Route]) -> list[str]:
    """What is only in one of both."""
    return [
        *(f"{method} {path} has no row in {TABLE.name}" for method, path in sorted(set(declared) - set(table))),
        *(
            f"{method} {path} has a row in {TABLE.name}, but no service has it"
            for method, path in sorted(set(table) - set(declared))
        ),
    ]


def role_needed(row: Row) -> str | None:
    """The least role that is not kept out by 401 or 403."""
    least = next(role for role in ("anonymous", "customer", "staff", "admin") if row[role] not in ("401", "403"))
    return None if least == "anonymous" else least
