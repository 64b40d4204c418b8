"""`caravan migrate`: make and upgrade the databases, for clusters where the services may not."""

import time

import uvloop

from caravan import telemetry
from caravan.audit import OPERATOR, record_audit
from caravan.database import Database
from caravan.environment import SettingsError
from caravan.runtime import run_migrations as migrate_all
from caravan.runtime.startup import StartTimeout, open_backends, retry_until_available
from cli.configuration import load_checked_settings
from cli.terminal import exit_with_error, print_line
from services.registry import SERVICES, load_services

RECORDED_IN = "identity"
"""The database with the record of it, which identity relays when it runs."""


def migrate_databases() -> None:
    kernel_settings = load_checked_settings(SERVICES)
    telemetry.configure_logs(kernel_settings.log_level, kernel_settings.log_format)

    async def migrate_when_available() -> None:
        async with open_backends(kernel_settings, print_line) as backends:
            applied_count = await retry_until_available(
                lambda: migrate_all(load_services(), backends), kernel_settings, print_line
            )
            database = await Database.open(RECORDED_IN, backends.get_database_url(RECORDED_IN), size=2)
            try:
                async with database.unit_of_work() as unit:
                    record_audit(unit, "databases.migrated", "databases", actor=OPERATOR, made=applied_count)
            finally:
                await database.close()

    started_at = time.monotonic()
    try:
        uvloop.run(migrate_when_available())
    except (SettingsError, StartTimeout) as error:
        exit_with_error(str(error))
    print_line(f"databases: migrated in {time.monotonic() - started_at:.1f} s")
