"""`make migration` writes what leads from the migrations to the declared tables, and back."""

import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest
from alembic import op

from caravan.runtime import Backends
from services.registry import load_services
from tools.catalog import (
    DECLARED_SCHEMA,
    Catalog,
    CatalogColumn,
    CatalogTable,
    build_changes,
    create_declared,
    read_catalog,
)
from tools.declared_tables import DeclaredDatabase, create_migrated, list_declared_databases
from tools.new_migration import MigrationRefused, check_new_columns, find_database, main, write_migration

ROOT = Path(__file__).parents[2]
PLANTED = '''"""Planted."""

from alembic import op

revision = "identity{number}"
down_revision = "identity{former}"


def upgrade() -> None:
    op.execute("ALTER TABLE account DROP CONSTRAINT account_role_check, ALTER version DROP DEFAULT")
    op.execute("DROP INDEX account_admin")
    op.execute("CREATE INDEX account_admin ON account (id)")
    op.execute("DROP TABLE reset_link")
    op.execute("ALTER TABLE account DROP COLUMN verification_mails")
    op.execute("ALTER TABLE attempt SET LOGGED")
    op.execute("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    op.execute("CREATE TRIGGER planted BEFORE DELETE ON account FOR EACH ROW EXECUTE FUNCTION refuse()")


def downgrade() -> None:
    pass
'''


def get_number(migration: Path) -> int:
    return int(migration.name[:4])


@pytest.fixture
def planted(tmp_path: Path) -> DeclaredDatabase:
    """Identity's database with a copy of its migrations, and one that undoes much of what is declared."""
    database = {found.name: found for found in list_declared_databases(load_services())}["identity"]
    folder = tmp_path / "migrations"
    shutil.copytree(database.version_folder, folder, ignore=shutil.ignore_patterns("__pycache__"))
    number = get_number(max(folder.glob("0*.py"))) + 1
    text = PLANTED.format(number=f"{number:04}", former=f"{number - 1:04}")
    (folder / f"{number:04}_planted.py").write_text(text)
    return replace(database, version_folder=folder)


async def test_the_migration_makes_what_is_declared_and_can_be_undone(
    backends: Backends, planted: DeclaredDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await read_catalog(await create_migrated(backends.database_url, planted), "public")
    path = await write_migration(backends.database_url, planted, "mend_accounts")
    [planted_path] = planted.version_folder.glob("*_planted.py")
    assert path.name == f"{get_number(planted_path) + 1:04}_mend_accounts.py"
    url = await create_migrated(backends.database_url, planted)
    await create_declared(url, planted.tables)
    declared = await read_catalog(url, DECLARED_SCHEMA)
    assert build_changes(await read_catalog(url, "public"), declared) == []
    with pytest.raises(MigrationRefused, match="already make what its tables declare"):
        await write_migration(backends.database_url, planted, "again")

    statements: list[str] = []
    url = await create_migrated(backends.database_url, planted)
    monkeypatch.setattr(op, "execute", statements.append, raising=False)
    downgrade: Callable[[], None] = runpy.run_path(str(path))["downgrade"]
    downgrade()
    connection = await asyncpg.connect(url)
    await connection.execute("; ".join(statements))
    await connection.close()
    assert build_changes(await read_catalog(url, "public"), before) == []
    for command in (["format", "--check"], ["check"]):
        arguments = [sys.executable, "-m", "ruff", *command, "--config", str(ROOT / "pyproject.toml"), str(path)]
        checked = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout + checked.stderr


async def test_a_name_that_is_no_file_name_is_refused(planted: DeclaredDatabase) -> None:
    with pytest.raises(MigrationRefused, match="lower-case letters"):
        await write_migration("postgresql://unused", planted, "../etc")


def test_an_unknown_database_is_refused_with_those_that_are_there() -> None:
    with pytest.raises(MigrationRefused, match=r"there is no database 'loyalty'; there are: kernel, bus, .*identity"):
        find_database("loyalty")


def test_a_column_that_no_row_has_a_value_for_is_refused() -> None:
    def build_catalog(**columns: CatalogColumn) -> Catalog:
        return Catalog({"account": CatalogTable(False, frozenset(), columns)})

    phone = CatalogColumn(
        "text",
        is_not_null=True,
        expression=None,
        is_generated=False,
        identity=None,
        storage="EXTENDED",
        type_storage="EXTENDED",
    )
    with pytest.raises(MigrationRefused, match=r"account\.phone may not be null and has no default"):
        check_new_columns(build_catalog(), build_catalog(phone=phone))
    check_new_columns(build_catalog(), build_catalog(phone=replace(phone, expression="''::text")))
    check_new_columns(Catalog(), build_catalog(phone=phone))


@pytest.mark.parametrize("arguments", [[], ["identity"], ["--help"]])
def test_without_a_name_it_says_how_it_is_called(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["new_migration", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert 'NAME="identity add_phone"' in capsys.readouterr().out + str(ended.value)
