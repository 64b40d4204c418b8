"""Databases of services as copies of ones that were migrated before: a copy takes a fifth of a migration's CPU."""

import zlib
from collections.abc import Iterable
from pathlib import Path

from caravan.database import open_connection
from caravan.database.migrations import KERNEL_VERSIONS, get_role_name, provision_databases, upgrade_database
from caravan.runtime import BUS, BUS_VERSIONS, Backends
from caravan.service import Service


async def create_databases(services: Iterable[Service], backends: Backends) -> None:
    """Those of these services and of the bus that are not there, at their newest versions. The first of each kind in a
    run is migrated, as everywhere, and copied for the next.
    """
    admin = await open_connection(backends.database_url)
    try:
        existing = {row[0] for row in await admin.fetch("SELECT datname FROM pg_database")}
        for name, versions in _list_version_folders(services).items():
            database = get_role_name(name)
            if database in existing:
                continue
            template = f"template_{database}_{zlib.crc32(repr(versions).encode()):x}"
            if template in existing:
                await admin.execute(
                    f"CREATE DATABASE {database} TEMPLATE {template} OWNER {database} STRATEGY FILE_COPY"
                )
                await admin.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
            else:
                await provision_databases(backends.database_url, {name: backends.get_password(name)})
                await upgrade_database(name, backends.get_database_url(name), versions)
                await admin.execute(
                    f"CREATE DATABASE {template} TEMPLATE {database} OWNER {database} STRATEGY FILE_COPY"
                )
    finally:
        await admin.close()


def _list_version_folders(services: Iterable[Service]) -> dict[str, list[Path]]:
    declared = [database for service in services for database in service.databases]
    return {BUS: [BUS_VERSIONS]} | {
        database.name: [*([KERNEL_VERSIONS] if database.has_kernel_tables else []), database.version_folder]
        for database in declared
    }
