"""Everything that the services know, as text: to be equal before and after what must change nothing."""

import asyncio
import hashlib
from pathlib import Path

import asyncpg

from caravan.runtime import Backends
from services.registry import load_services

KERNEL = {"outbox", "inbox", "idempotency", "alembic_version"}
"""Mechanism, not knowledge."""
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> ALL($1) ORDER BY 1"

Books = dict[str, list[str]]
"""The rows of each table as `database.table`, and the letters in the mail folder."""


async def books(backends: Backends, data: Path) -> Books:
    # Reconciliation writes at times of its own, whatever the orders do.
    services = (service for service in load_services() if service.name != "reconciliation")
    databases = [declared.name for service in services for declared in service.databases]
    found = await asyncio.gather(*(_tables(backends, database) for database in databases))
    mail = sorted(
        f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in (data / "mail").glob("*.eml")
    )
    return {table: rows for tables in found for table, rows in tables.items()} | {"mail": mail}


async def _tables(backends: Backends, database: str) -> Books:
    connection = await asyncpg.connect(backends.get_database_url(database))
    try:
        names = [row[0] for row in await connection.fetch(TABLES, list(KERNEL))]
        return {
            f"{database}.{name}": [row[0] for row in await connection.fetch(f"SELECT t::text FROM {name} t ORDER BY 1")]
            for name in names
        }
    finally:
        await connection.close()


def differences(before: Books, after: Books) -> list[str]:
    """Each table that is not as it was, with its first changed rows."""
    found = []
    for table in sorted(before.keys() | after.keys()):
        old, new = set(before.get(table, ())), set(after.get(table, ()))
        if old != new or len(before.get(table, ())) != len(after.get(table, ())):
            found.append(
                f"{table}: {len(before.get(table, ()))} rows, now {len(after.get(table, ()))}; gone "
                f"{sorted(old - new)[:3]}, new {sorted(new - old)[:3]}"
            )
    return found
