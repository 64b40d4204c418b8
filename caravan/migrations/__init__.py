"""Databases and their versions: makes each service's role and database, and brings its tables up to date with Alembic.

Each database has two branches of versions: the kernel's (outbox, inbox, idempotency records) and the service's own.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine

from caravan.telemetry import log

KERNEL = Path(__file__).parent / "versions"
LOCK = 0x43415241  # "CARA": one migration of a database at a time


def role_url(server: str, database: str, password: str) -> str:
    """The URL under which the owner of a database reaches it, from the server's; the user of that one, if any, is not needed."""
    parts = urlsplit(server)
    host = parts.netloc.rpartition("@")[2]
    name = role_name(database)
    return urlunsplit(parts._replace(netloc=f"{name}:{quote(password, safe='')}@{host}", path=f"/{name}"))


def role_name(database: str) -> str:
    return f"caravan_{database}"


async def provision(server: str, passwords: Mapping[str, str]) -> None:
    """A role and a database of its own for each name, with its password; nobody else may connect to it. Repeatable; sets the passwords anew."""
    connection = await asyncpg.connect(server)
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        roles = {row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
        existing = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
        for database, password in passwords.items():
            name = role_name(database)
            verb = "ALTER" if name in roles else "CREATE"
            # DDL takes no parameters; the name is a service's, and format() quotes the password.
            quoted = await connection.fetchval("SELECT format('%L', $1::text)", password)
            await connection.execute(f"{verb} ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD {quoted}")
            if name not in existing:
                await connection.execute(f"CREATE DATABASE {name} OWNER {name}")
                await connection.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
    finally:
        await connection.close()


async def upgrade(name: str, url: str, versions: Sequence[Path]) -> list[str]:
    """Bring one database to the newest version of all its branches, and say which it did not have. Safe to run from several processes at once."""
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    try:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            await connection.commit()
            made = await connection.run_sync(_upgrade, versions)
            await connection.commit()
            await connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
    finally:
        await engine.dispose()
    log.debug("migrated", database=name, made=made)
    return made


class NotMigrated(Exception):
    """A database is not there yet, or not at the version of this code."""


async def check(name: str, url: str, versions: Sequence[Path]) -> None:
    """Raises NotMigrated unless the database is at the newest version of all its branches, or beyond."""
    try:
        connection = await asyncpg.connect(url)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidCatalogNameError, asyncpg.InsufficientPrivilegeError) as error:
        raise NotMigrated(f"{role_name(name)} can't be opened ({error})") from None
    try:
        there = {row[0] for row in await connection.fetch("SELECT version_num FROM alembic_version")}
    except asyncpg.UndefinedTableError:
        there = set()
    finally:
        await connection.close()
    script = ScriptDirectory.from_config(_config(versions))
    # A version that this code doesn't know was written by newer code, during its rollout: it stays compatible with us.
    known = {revision.revision for revision in script.walk_revisions()}
    missing = set(script.get_heads()) - there
    if missing and there <= known:
        raise NotMigrated(f"{role_name(name)} lacks {', '.join(sorted(missing))}")


def _config(versions: Sequence[Path]) -> Config:
    here = Path(__file__).parent
    config = Config()
    config.set_main_option("script_location", str(here))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(str(folder) for folder in versions))
    return config


def _upgrade(connection: Connection, versions: Sequence[Path]) -> list[str]:
    config = _config(versions)
    config.attributes["connection"] = connection
    before = MigrationContext.configure(connection).get_current_heads()
    command.upgrade(config, "heads")
    return sorted({*MigrationContext.configure(connection).get_current_heads()} - {*before})
