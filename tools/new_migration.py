"""Writes the next migration of a database: `make migration NAME="identity add_phone"`.

It starts a Postgres, brings it to where the migrations lead, makes what `tables.py` declares beside it, and writes the
statements that lead from the one to the other, and back. `tools/catalog.py` finds them.
"""

import argparse
import asyncio
import re
import secrets
import sys
import tempfile
from pathlib import Path

from caravan import embedded, telemetry
from services.registry import load_services
from tools.catalog import DECLARED_SCHEMA, Catalog, build_changes, create_declared, read_catalog
from tools.declared_tables import DeclaredDatabase, create_migrated, list_declared_databases

USAGE = """\
make migration NAME="<database> <what it does>", for example NAME="identity add_phone"

1. change services/<name>/tables.py (the kernel's tables: caravan/database/kernel_tables.py)
2. make migration NAME="..."     writes services/<name>/migrations/<number>_<what it does>.py
3. read it: it must leave what the last release reads and writes, which runs beside it during a rollout
"""
_LINE_LENGTH = 96


class MigrationRefused(Exception):
    """Nothing can be written; the message says what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(
        "tools.new_migration", description=USAGE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "database", nargs="?", help="a database of a service, as its main.py names it; or kernel, or bus"
    )
    parser.add_argument("name", nargs="?", help="what the migration does, as a file's name: add_phone")
    arguments = parser.parse_args()
    if not arguments.database or not arguments.name:
        sys.exit(USAGE)
    try:
        path = asyncio.run(_write_with_server(find_database(arguments.database), arguments.name))
    except MigrationRefused as refusal:
        sys.exit(str(refusal))
    print(f"{path}: read it, say in its docstring what it is for, and run the tests")


def _list_databases() -> list[DeclaredDatabase]:
    return list_declared_databases(load_services())


def find_database(name: str) -> DeclaredDatabase:
    databases = {database.name: database for database in _list_databases()}
    if name not in databases:
        raise MigrationRefused(f"there is no database {name!r}; there are: {', '.join(databases)}")
    if databases[name].own_tables is None:
        raise MigrationRefused(
            f"services/{databases[name].owner}/tables.py declares no table of {name}: declare them all first, or write"
            " the migration by hand"
        )
    return databases[name]


async def _write_with_server(database: DeclaredDatabase, name: str) -> Path:
    telemetry.configure_logs("error", "text")
    with tempfile.TemporaryDirectory(prefix="caravan-migration-") as folder:
        async with embedded.start(Path(folder), secret=secrets.token_hex(32), announce=lambda _: None) as servers:
            return await write_migration(servers.database_url, database, name)


async def write_migration(server: str, database: DeclaredDatabase, name: str) -> Path:
    """Write the migration from the migrated to the declared tables; the file. Raises MigrationRefused."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{2,40}", name):
        raise MigrationRefused(f"{name!r} can't be the name of a file: use lower-case letters, digits and underscores")
    url = await create_migrated(server, database)
    await create_declared(url, database.tables)
    migrated, declared = await read_catalog(url, "public"), await read_catalog(url, DECLARED_SCHEMA)
    upgrade = build_changes(migrated, declared)
    if not upgrade:
        raise MigrationRefused(f"the migrations of {database.name} already make what its tables declare")
    check_new_columns(migrated, declared)
    path, text = render_migration(database.version_folder, name, upgrade, build_changes(declared, migrated))
    path.write_text(text)
    return path


def check_new_columns(migrated: Catalog, declared: Catalog) -> None:
    """Refuse what rows that are there, and the last release, can't meet."""
    for name, table in declared.tables.items():
        if old := migrated.tables.get(name):
            for key, column in table.columns.items():
                if key not in old.columns and column.is_not_null and not (column.expression or column.identity):
                    raise MigrationRefused(
                        f"{name}.{key} may not be null and has no default: the rows that are there have no value, and"
                        " the last release writes none. Give it `default=` in define_column, or let it be null"
                    )


def render_migration(folder: Path, name: str, upgrade: list[str], downgrade: list[str]) -> tuple[Path, str]:
    """The next file of a folder of versions, and its text."""
    last = max(folder.glob("*.py"), key=_read_number)
    match = re.match(r"([a-z]*)(\d+)_", last.name)
    revision = re.search(r'^revision = "(\D+)(\d+)"', last.read_text(), re.MULTILINE)
    assert match and revision, f"{last} doesn't begin with its number or has no revision"
    prefix, digits = match.groups()
    number = int(digits) + 1
    path = folder / f"{prefix}{number:0{len(digits)}}_{name}.py"
    identifier, previous = f"{revision[1]}{number:0{len(revision[2])}}", revision[1] + revision[2]
    return path, (
        f'"""{name.replace("_", " ").capitalize()}."""\n\nfrom alembic import op\n\n'
        f'revision = "{identifier}"\ndown_revision = "{previous}"\n\n\n'
        f"def upgrade() -> None:\n{_render_statements(upgrade)}\n\ndef downgrade() -> None:\n"
        f"{_render_statements(downgrade)}"
    )


def _read_number(path: Path) -> int:
    match = re.match(r"[a-z]*(\d+)_", path.name)
    return int(match[1]) if match else 0


def _render_statements(statements: list[str]) -> str:
    return "".join(f"    op.execute({_render_literal(statement)})\n" for statement in statements)


def _render_literal(statement: str) -> str:
    """The text as Python, in lines that are short enough. A colon before a word would be a parameter."""
    escaped = re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", statement).replace("\\", "\\\\")
    if "\n" in statement and '"""' not in statement:
        return f'"""\n{escaped}\n"""'
    escaped = escaped.replace('"', '\\"')
    if len(escaped) <= _LINE_LENGTH:
        return f'"{escaped}"'
    lines = [""]
    for word in re.findall(r"\S*\s*", escaped):
        if len(lines[-1]) + len(word) > _LINE_LENGTH:
            lines.append("")
        lines[-1] += word
    return "\n" + "".join(f'        "{line}"\n' for line in lines if line) + "    "


if __name__ == "__main__":
    main()
