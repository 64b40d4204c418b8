"""Databases and their versions: makes each service's role and database, and brings its tables up to date with Alembic.

Each database has two branches of versions: the kernel's (outbox, inbox, idempotency records) and the service's own.
"""

import itertools
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from caravan.database import LIMITS, PIN, check_pooler, is_pooled, open_connection
from caravan.telemetry import log

__all__ = [
    "KERNEL_VERSIONS",
    "NotMigrated",
    "build_reader_url",
    "build_role_url",
    "check_versions",
    "get_role_name",
    "grant_reads",
    "provision_databases",
    "upgrade_database",
]

KERNEL_VERSIONS = Path(__file__).parent / "versions"
READER_LIMITS = {"default_transaction_read_only": "on", "statement_timeout": "60s"}
"""What a reader's sessions in another's database begin with. Its rights say what it may do; these are a second wall."""
_LOCK_ID = 0x43415241  # "CARA": one migration of a database at a time


def build_role_url(server: str, database: str, password: str) -> str:
    """The URL under which the owner of a database reaches it, from the server's; the user of that one, if any, is not
    needed.
    """
    server_parts = urlsplit(server)
    host = server_parts.netloc.rpartition("@")[2]
    name = get_role_name(database)
    return urlunsplit(server_parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}", path=f"/{name}"))


def build_reader_url(server: str, database: str, reader: str, password: str) -> str:
    """The URL under which the role of the database `reader` reads another one."""
    return urlunsplit(urlsplit(build_role_url(server, reader, password))._replace(path=f"/{get_role_name(database)}"))


def get_role_name(database: str) -> str:
    return f"caravan_{database}"


async def provision_databases(
    server: str, passwords: Mapping[str, str], readers: Mapping[str, Iterable[str]] | None = None
) -> None:
    """A role with its limits and password and a database of its own for each name; nobody else may connect to it but
    the roles of its `readers`, whose sessions there are read-only.

    Repeatable; sets the passwords anew.
    """
    async with _alone(server):
        connection = await open_connection(server)
        try:
            pooled = await is_pooled(connection)
            await _create_roles(connection, [*passwords, *itertools.chain(*(readers or {}).values())])
            existing = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
            for database, password in passwords.items():
                name = get_role_name(database)
                limits = [f"ALTER ROLE {name} SET {limit} = '{value}'" for limit, value in LIMITS.items()]
                await connection.execute("; ".join(limits))
                # DDL takes no parameters; the name is a service's, and format() quotes the password.
                quoted = await connection.fetchval("SELECT format('%L', $1::text)", password)
                # A pooler logs in with what it has read of the server's record of a password. Set anew, the same
                # password
                # has another record, and the pooler's next login would be refused.
                there = name in existing
                known = pooled and there and await _opens(build_role_url(server, database, password))
                rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE" + ("" if known else f" PASSWORD {quoted}")
                await connection.execute(f"ALTER ROLE {name} {rights}")
                if name not in existing:
                    await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
                    await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
                await _admit_readers(connection, name, (readers or {}).get(database, ()))
        finally:
            await connection.close()


async def _create_roles(connection: asyncpg.Connection, databases: Iterable[str]) -> None:
    """A role that reads another's database may be made before its own database is, which gives it its password."""
    there = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
    for role in {get_role_name(database) for database in databases} - there:
        await connection.execute(f"CREATE ROLE {role}")


async def _admit_readers(connection: asyncpg.Connection, database: str, readers: Iterable[str]) -> None:
    for reader in map(get_role_name, readers):
        limits = [f"ALTER ROLE {reader} IN DATABASE {database} SET {k} = '{v}'" for k, v in READER_LIMITS.items()]
        await connection.execute("; ".join([f"GRANT CONNECT ON DATABASE {database} TO {reader}", *limits]))


async def grant_reads(url: str, readers: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
    """Let each reader's role select these columns of these tables, and nothing else. `url`: of the tables' owner.
    Repeatable.
    """
    if not readers:
        return
    async with _alone(url):
        connection = await open_connection(url)
        try:
            for reader, columns_by_table in readers.items():
                role = get_role_name(reader)
                granted = await connection.fetch(
                    "SELECT table_name, column_name FROM information_schema.column_privileges"
                    " WHERE grantee = $1 AND table_schema = 'public'",
                    role,
                )
                declared = {(table, column) for table, columns in columns_by_table.items() for column in columns}
                if {(row[0], row[1]) for row in granted} == declared:
                    continue
                grants = [
                    f"GRANT SELECT ({', '.join(columns)}) ON {table} TO {role}"
                    for table, columns in columns_by_table.items()
                ]
                revoke = f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}"
                await connection.execute("; ".join(["BEGIN", revoke, *grants, "COMMIT"]))
        finally:
            await connection.close()


async def _opens(url: str) -> bool:
    try:
        await (await open_connection(url)).close()
    except (asyncpg.PostgresError, OSError):
        return False
    return True


@asynccontextmanager
async def _alone(url: str) -> AsyncIterator[asyncpg.Connection]:
    """While nobody else changes what this URL leads to.

    The lock has a connection of its own and ends with a transaction, so that it holds behind a pooler too.
    """
    connection = await open_connection(url)
    try:
        await check_pooler(connection, lambda: open_connection(url))
        await connection.execute(f"{PIN}; SELECT pg_advisory_xact_lock({_LOCK_ID})")
        yield connection
    finally:
        await connection.close()


async def upgrade_database(name: str, url: str, versions: Sequence[Path]) -> list[str]:
    """Bring one database to the newest version of all its branches, and say which it did not have. Safe to run from
    several processes at once.
    """
    async with _alone(url) as holder:
        if await _there(holder) == set(ScriptDirectory.from_config(_build_config(versions)).get_heads()):
            return []
        engine = create_async_engine("postgresql+asyncpg://", async_creator=lambda: open_connection(url))
        try:
            async with engine.connect() as connection:
                made = await connection.run_sync(_run_upgrade, versions)
                await connection.commit()
        finally:
            await engine.dispose()
    log.debug("migrated", database=name, made=made)
    return made


async def _there(connection: asyncpg.Connection) -> set[str]:
    """The versions that a database is at."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return set()
    return {row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")}


class NotMigrated(Exception):
    """A database is not there yet, or not at the version of this code."""


_CLOSED = (
    asyncpg.InvalidPasswordError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.ProtocolViolationError,  # PgBouncer's "no such user"
)


async def check_versions(name: str, url: str, versions: Sequence[Path]) -> None:
    """Raises NotMigrated unless the database is at the newest version of all its branches, or beyond."""
    try:
        connection = await open_connection(url)
    except _CLOSED as error:
        raise NotMigrated(f"{get_role_name(name)} can't be opened ({error})") from None
    try:
        await check_pooler(connection, lambda: open_connection(url))
        applied_versions = await _there(connection)
    finally:
        await connection.close()
    script = ScriptDirectory.from_config(_build_config(versions))
    # A version that this code doesn't know was written by newer code, during its rollout: it stays compatible with us.
    known_versions = {revision.revision for revision in script.walk_revisions()}
    missing_versions = set(script.get_heads()) - applied_versions
    if missing_versions and applied_versions <= known_versions:
        raise NotMigrated(f"{get_role_name(name)} lacks {', '.join(sorted(missing_versions))}")


def _build_config(versions: Sequence[Path]) -> Config:
    package_folder = Path(__file__).parent
    config = Config()
    config.set_main_option("script_location", str(package_folder))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(folder) for folder in versions))
    return config


def _run_upgrade(connection: Connection, versions: Sequence[Path]) -> list[str]:
    config = _build_config(versions)
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_heads()
    command.upgrade(config, "heads")
    return sorted({*MigrationContext.configure(connection).get_current_heads()} - {*before})
