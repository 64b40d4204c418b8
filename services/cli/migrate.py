"""`caravan migrate`: make and upgrade the databases, for clusters where the services may not."""

import time

import uvloop

from caravan import telemetry
from caravan.runtime import migrate as migrate_all
from caravan.settings import SettingsError
from services.__main__ import SERVICES, load
from services.cli.configuration import settings_for
from services.cli.serve import backends, patiently
from services.cli.terminal import fail, print_line


def migrate() -> None:
    kernel = settings_for(SERVICES)
    telemetry.configure_logs(kernel.log_level, kernel.log_format)

    async def work() -> None:
        async with backends(kernel, print_line) as servers:
            await patiently(lambda: migrate_all(load(), servers), kernel, print_line)

    began = time.monotonic()
    try:
        uvloop.run(work())
    except SettingsError as error:
        fail(str(error))
    print_line(f"databases: migrated in {time.monotonic() - began:.1f} s")
