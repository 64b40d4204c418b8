"""A service's role reaches its own database and no other."""

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import asyncpg
import pytest

from caravan.database.migrations import build_role_url
from caravan.runtime import BUS, Backends, run_migrations
from services.registry import load_services


@pytest.fixture(scope="module")
async def databases(backends: Backends) -> list[str]:
    services = load_services()
    await run_migrations(services, backends)
    return [BUS, *(declared.name for service in services for declared in service.databases)]


def list_readers() -> dict[tuple[str, str], Mapping[str, Sequence[str]]]:
    """By reader and database: the columns that it may read, by table."""
    return {
        (reader, declared.name): columns
        for service in load_services()
        for declared in service.databases
        for reader, columns in declared.readers.items()
    }


async def test_no_role_can_connect_to_the_database_of_another_but_reconciliation_to_read(
    backends: Backends, databases: list[str]
) -> None:
    reached = set()
    for own in databases:
        for other in databases:
            if own == other:
                continue
            url = urlsplit(backends.get_database_url(own))._replace(path=f"/caravan_{other}").geturl()
            try:
                await (await asyncpg.connect(url)).close()
            except asyncpg.InsufficientPrivilegeError:
                continue
            reached.add((own, other))
    assert reached == list_readers().keys()
    assert {own for own, _ in reached} == {"reconciliation"}, "the one listed exception"


async def test_a_reader_selects_what_the_owner_names_and_changes_nothing(
    backends: Backends, databases: list[str]
) -> None:
    for (reader, database), columns in list_readers().items():
        connection = await asyncpg.connect(backends.get_reader_url(database, reader))
        try:
            for table, names in columns.items():
                await connection.fetch(f"SELECT {', '.join(names)} FROM {table} LIMIT 1")
            tables = [
                row[0]
                for row in await connection.fetch(
                    "SELECT relname FROM pg_class WHERE relkind IN ('r', 'v') AND relnamespace = 'public'::regnamespace"
                )
            ]
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute("CREATE TEMP TABLE planted (id int)")
            await connection.execute("SET default_transaction_read_only = off")  # the rights alone say no, too
            for table in tables:
                reads = [] if table in columns else [f"SELECT FROM {table}"]
                for change in (*reads, f"INSERT INTO {table} DEFAULT VALUES", f"DELETE FROM {table}"):
                    with pytest.raises(asyncpg.InsufficientPrivilegeError):
                        await connection.execute(change)
            for change in ("CREATE TABLE planted (id int)", "CREATE TEMP TABLE planted (id int)"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(change)
        finally:
            await connection.close()


async def test_what_a_reader_may_read_follows_its_declaration(backends: Backends, databases: list[str]) -> None:
    owner = await asyncpg.connect(backends.get_database_url("payments"))
    await owner.execute("GRANT SELECT, INSERT ON bill TO caravan_reconciliation")
    await run_migrations(load_services(), backends)
    granted = "SELECT count(*) FROM information_schema.role_table_grants WHERE grantee = 'caravan_reconciliation'"
    assert await owner.fetchval(granted) == 0, "columns are granted, no table"
    await owner.close()


async def test_a_wrong_password_is_refused(backends: Backends, databases: list[str]) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(build_role_url(backends.database_url, databases[1], "another password"))


async def test_migrating_again_changes_nothing(backends: Backends, databases: list[str]) -> None:
    await run_migrations(load_services(), backends)
    connection = await asyncpg.connect(backends.get_database_url("orders"))
    versions = {row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    await connection.close()
    assert versions >= {"k0005", "orders0004"}
