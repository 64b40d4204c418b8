"""A database of a test's own with the kernel's tables, for tests of what the kernel does without a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caravan.clock import Clock, utc_now
from caravan.database import Database
from caravan.database.migrations import KERNEL_VERSIONS, provision_databases, upgrade_database
from caravan.runtime import Backends

NOTE_TABLE = "CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY, text text)"


@asynccontextmanager
async def open_kernel_database(
    backends: Backends, name: str, *statements: str, clock: Clock = utc_now, size: int = 5
) -> AsyncIterator[Database]:
    """`statements` make further tables."""
    await provision_databases(backends.database_url, {name: backends.get_password(name)})
    url = backends.get_database_url(name)
    await upgrade_database(name, url, [KERNEL_VERSIONS])
    database = await Database.open(name, url, size=size, clock=clock)
    try:
        for statement in statements:
            await database.fetch(statement)
        yield database
    finally:
        await database.close()


def count_statements(database: Database) -> int:
    """The statements that were sent to this database so far."""
    return int(database.statement_counter._value.get())
