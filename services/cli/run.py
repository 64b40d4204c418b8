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

    async def started(process: Process) -> None:
        print_line(f"{', '.join(chosen)}: listening on {process.address}")
        if "identity" in chosen:
            await ensure_admin(process)

    start(chosen, kernel, print_line, started)
