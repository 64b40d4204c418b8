"""`caravan migrate`: make and upgrade the databases, for clusters where the services may not."""

import time

import uvloop

from caravan import telemetry
from caravan.runtime import migrate as migrate_all
from caravan.settings import SettingsError
from services.__main__ import load
from services.cli.serve import backends, fail, kernel_settings, patiently


def migrate() -> None:
    """Make and upgrade the databases of all services, each with a role of its own, and end. Waits for Postgres; safe to run twice at once.

    CARAVAN_DATABASE_URL names a role that may create roles and databases. The services then run with CARAVAN_MIGRATE=false and a URL without a user.
    """
    kernel = kernel_settings()
    telemetry.configure_logs(kernel.log_level, kernel.log_format)

    async def work() -> None:
        async with backends(kernel, print, join=True) as servers:
            await patiently(lambda: migrate_all(load(), servers), kernel, print)

    began = time.monotonic()
    try:
        uvloop.run(work())
    except SettingsError as error:
        fail(str(error))
    print(f"databases: migrated in {time.monotonic() - began:.1f} s")
