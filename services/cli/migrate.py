"""`caravan migrate`: make and upgrade the databases, for clusters where the services may not."""

import time

import uvloop

from caravan import telemetry
from caravan.audit import OPERATOR, audit
from caravan.database import Database
from caravan.runtime import migrate as migrate_all
from caravan.settings import SettingsError
from services.__main__ import SERVICES, load
from services.cli.configuration import settings_for
from services.cli.serve import backends, patiently
from services.cli.terminal import fail, print_line

RECORDED_IN = "identity"
"""The database with the record of it, which identity relays when it runs."""


def migrate() -> None:
    kernel = settings_for(SERVICES)
    telemetry.configure_logs(kernel.log_level, kernel.log_format)

    async def work() -> None:
        async with backends(kernel, print_line) as servers:
            made = await patiently(lambda: migrate_all(load(), servers), kernel, print_line)
            database = await Database.open(RECORDED_IN, servers.database(RECORDED_IN), size=2)
            try:
                async with database.work() as unit:
                    audit(unit, "databases.migrated", "databases", actor=OPERATOR, made=made)
            finally:
                await database.close()

    began = time.monotonic()
    try:
        uvloop.run(work())
    except SettingsError as error:
        fail(str(error))
    print_line(f"databases: migrated in {time.monotonic() - began:.1f} s")
