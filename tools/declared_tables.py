"""Which tables are declared of which database: those of the kernel, of the bus and of the modules `tables.py`.

`make migration` and the tests in `tests/architecture` ask for it, and for a database that is migrated as far.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from sqlalchemy import MetaData

from caravan.database.bus_tables import BusTable
from caravan.database.kernel_tables import KernelTable
from caravan.database.migrations import KERNEL_VERSIONS, upgrade_database
from caravan.database.tables import DeclaredTable, get_database_name
from caravan.runtime import BUS, BUS_VERSIONS
from caravan.service import Service


@dataclass(frozen=True)
class DeclaredDatabase:
    """A database that has migrations. `own_tables`: None for one whose tables nobody has declared."""

    name: str
    owner: str
    own_tables: MetaData | None
    version_folder: Path
    has_kernel_tables: bool = True

    @property
    def tables(self) -> list[MetaData]:
        """All that stands in it."""
        assert self.own_tables is not None, f"services/{self.owner}/tables.py declares nothing of {self.name}"
        return [*([KernelTable.metadata] if self.has_kernel_tables else []), self.own_tables]

    @property
    def version_folders(self) -> list[Path]:
        return [*([KERNEL_VERSIONS] if self.has_kernel_tables else []), self.version_folder]


def list_declared_databases(services: Iterable[Service]) -> list[DeclaredDatabase]:
    """Those of the services, that of the bus, and the kernel's tables as if they were a database of their own."""
    databases = [
        DeclaredDatabase("kernel", "kernel", KernelTable.metadata, KERNEL_VERSIONS, has_kernel_tables=False),
        DeclaredDatabase(BUS, "bus", BusTable.metadata, BUS_VERSIONS, has_kernel_tables=False),
    ]
    for service in services:
        metadata = _find_metadata(service.name)
        databases += [
            DeclaredDatabase(
                database.name,
                service.name,
                metadata.get(database.name),
                database.version_folder,
                database.has_kernel_tables,
            )
            for database in service.databases
        ]
    return databases


async def create_migrated(server: str, database: DeclaredDatabase) -> str:
    """A new database of the server with all that the migrations make; its URL."""
    name = f"migrated_{database.name}"
    connection = await asyncpg.connect(server)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    url = urlsplit(server)._replace(path=f"/{name}").geturl()
    await upgrade_database(name, url, database.version_folders)
    return url


def _find_metadata(service: str) -> dict[str, MetaData]:
    """What the service's `tables.py` declares, by the name of the database; nothing without one."""
    module_name = f"services.{service}.tables"
    if find_spec(module_name) is None:
        return {}
    found = [
        value.metadata
        for value in vars(import_module(module_name)).values()
        if isinstance(value, type) and issubclass(value, DeclaredTable) and DeclaredTable in value.__bases__
    ]
    return {get_database_name(metadata): metadata for metadata in found if metadata.info}
