"""What `tables.py` declares is what the migrations make, as Postgres' own catalog has it."""

import asyncpg
import pytest

from caravan.runtime import Backends
from services.registry import load_services
from tools.catalog import DECLARED_SCHEMA, build_changes, create_declared, read_catalog
from tools.declared_tables import create_migrated, list_declared_databases

DATABASES = {database.name: database for database in list_declared_databases(load_services())}


def test_every_database_is_declared() -> None:
    assert [name for name, database in DATABASES.items() if database.own_tables is None] == []


@pytest.mark.parametrize("name", sorted(DATABASES))
async def test_the_migrations_make_what_is_declared(backends: Backends, name: str) -> None:
    assert await find_changes(await create_migrated(backends.database_url, DATABASES[name]), name) == [], (
        f"make migration NAME='{name} <what it does>', or declare what the migrations make"
    )


async def find_changes(url: str, name: str) -> list[str]:
    await create_declared(url, DATABASES[name].tables)
    return build_changes(await read_catalog(url, "public"), await read_catalog(url, DECLARED_SCHEMA))


@pytest.fixture(scope="module")
async def identity_url(backends: Backends) -> str:
    return await create_migrated(backends.database_url, DATABASES["identity"])


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        ("ALTER TABLE account DROP CONSTRAINT account_role_check", "ADD CONSTRAINT account_role_check CHECK"),
        ("DROP INDEX account_admin; CREATE INDEX account_admin ON account (id)", "WHERE role = 'admin'"),
        ("ALTER TABLE account ALTER version DROP DEFAULT", "ALTER COLUMN version SET DEFAULT 1"),
        (
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
            "CREATE TRIGGER planted BEFORE DELETE ON account FOR EACH ROW EXECUTE FUNCTION refuse()",
            "DROP TRIGGER planted ON account",
        ),
        ("ALTER TABLE attempt SET LOGGED", "ALTER TABLE attempt SET UNLOGGED"),
        ("ALTER TABLE account ALTER name DROP NOT NULL", "ALTER COLUMN name SET NOT NULL"),
        ("ALTER TABLE account ALTER verification_mails TYPE int", "ALTER COLUMN verification_mails TYPE smallint"),
        ("ALTER TABLE account ADD COLUMN phone text", "DROP COLUMN phone"),
        ("ALTER TABLE outbox ALTER id DROP IDENTITY", "ADD GENERATED ALWAYS AS IDENTITY"),
        ("ALTER TABLE outbox RESET (autovacuum_vacuum_threshold)", "SET (autovacuum_vacuum_threshold=5000)"),
        ("ALTER TABLE inbox DROP CONSTRAINT inbox_pkey", "ADD CONSTRAINT inbox_pkey PRIMARY KEY"),
        ("ALTER TABLE account ALTER email SET STORAGE EXTERNAL", "ALTER COLUMN email SET STORAGE EXTENDED"),
        (
            "CREATE UNIQUE INDEX planted ON account (id, name); CREATE TABLE pointer (id uuid, name text, "
            "FOREIGN KEY (id, name) REFERENCES account (id, name))",
            "DROP INDEX planted",
        ),
        ("CREATE SEQUENCE planted", "DROP SEQUENCE planted"),
        ("CREATE TABLE planted (id int)", "DROP TABLE planted"),
        ("DROP TABLE reset_link", "CREATE TABLE reset_link"),
    ],
)
async def test_a_planted_difference_is_found_and_mended(identity_url: str, planted: str, found: str) -> None:
    connection = await asyncpg.connect(identity_url)
    try:
        await connection.execute(planted)
        changes = await find_changes(identity_url, "identity")
        assert found in "; ".join(changes)
        await connection.execute("; ".join(changes))
        assert await find_changes(identity_url, "identity") == []
    finally:
        await connection.close()
