"""`caravan run orders`: one service, some, or all, in this process."""

from caravan.runtime import Process
from services.cli.configuration import settings_for
from services.cli.serve import choose, start
from services.cli.terminal import print_line
from services.cli.up import ensure_admin


def run(names: list[str]) -> None:
    chosen = choose(names)
    kernel = settings_for(chosen)
    if "gateway" not in chosen and "port" not in kernel.model_fields_set:
        kernel = kernel.model_copy(update={"port": 0})

    async def prepare(process: Process) -> None:
        if "identity" in chosen and (password := await ensure_admin(process)):
            print_line(f"admin: {kernel.admin_email}, password (shown once): {password}")

    async def started(process: Process, _: None) -> None:
        print_line(f"{', '.join(chosen)}: listening on {process.address}")

    start(chosen, kernel, print_line, prepare, started)
