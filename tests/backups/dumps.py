"""Dumps of each database by itself, as `docs/how-to/backups.md` takes and restores them: `pg_dump` and `pg_restore` of
the server's own release.

The ledger of the payment provider belongs to somebody else. The simulated one stands in a table of payments, which is
therefore put back as it was just before a restore.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg

from caravan.database.migrations import get_role_name
from caravan.embedded import postgres
from caravan.embedded.paths import find_paths
from caravan.runtime import BUS, Backends
from services.registry import load_services

PROVIDER = "provider_ledger"
EMPTY_BUS = "TRUNCATE topic_log, delivery, dead_letter"
COMMAND_SECONDS = 120


def list_databases() -> list[str]:
    """Of all services, without the bus."""
    return [database.name for service in load_services() for database in service.databases]


@dataclass(frozen=True, slots=True)
class Dumps:
    """`folder`: has a folder for each moment, in it a file for each database."""

    backends: Backends
    data: Path
    folder: Path

    async def take(self, moment: str) -> None:
        """Of every database, one after the other, while the shop goes on."""
        (self.folder / moment).mkdir(parents=True)
        for database in list_databases():
            await self._run(
                "pg_dump", "--format=custom", f"--file={self._get_file(moment, database)}", self._get_url(database)
            )

    async def restore(self, moments: Mapping[str, str]) -> None:
        """Each database to its moment, while no service runs. The bus loses what it held, as brokers that are made
        anew.
        """
        ledger = self.folder / "provider.copy"
        await self._copy_ledger(ledger, is_back=False)
        for database, moment in moments.items():
            await self._run(
                *("pg_restore", "--clean", "--create", f"--dbname={self.backends.database_url}"),
                str(self._get_file(moment, database)),
            )
        await self._copy_ledger(ledger, is_back=True)
        connection = await asyncpg.connect(self.backends.get_database_url(BUS))
        try:
            await connection.execute(EMPTY_BUS)
        finally:
            await connection.close()

    async def _copy_ledger(self, file: Path, *, is_back: bool) -> None:
        connection = await asyncpg.connect(self.backends.get_database_url("payments"))
        try:
            if is_back:
                await connection.execute(f"TRUNCATE {PROVIDER}")
                await connection.copy_to_table(PROVIDER, source=file)
            else:
                await connection.copy_from_table(PROVIDER, output=file)
        finally:
            await connection.close()

    async def _run(self, program: str, *arguments: str) -> None:
        server = postgres.find_running(find_paths(self.data.resolve()))
        assert server is not None
        process = await asyncio.create_subprocess_exec(
            str(Path(server.process.exe()).parent / program), *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, errors = await asyncio.wait_for(process.communicate(), COMMAND_SECONDS)
        assert process.returncode == 0, errors.decode()

    def _get_url(self, database: str) -> str:
        """Of the role that owns the server, which may dump everything."""
        return urlsplit(self.backends.database_url)._replace(path=f"/{get_role_name(database)}").geturl()

    def _get_file(self, moment: str, database: str) -> Path:
        return self.folder / moment / f"{database}.dump"
