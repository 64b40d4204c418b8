"""`caravan run orders`: one service, some, or all, in this process."""

from caravan.runtime import Process
from cli.configuration import load_checked_settings
from cli.serve import choose_services, start
from cli.terminal import print_line
from cli.up import ensure_admin


def run_services(names: list[str]) -> None:
    names_to_run = choose_services(names)
    kernel_settings = load_checked_settings(names_to_run)
    if "gateway" not in names_to_run and "port" not in kernel_settings.model_fields_set:
        kernel_settings = kernel_settings.model_copy(update={"port": 0})

    async def prepare_admin(process: Process) -> None:
        if "identity" in names_to_run and (password := await ensure_admin(process)):
            print_line(f"admin: {kernel_settings.admin_email}, password (shown once): {password}")

    async def announce_start(process: Process, _: None) -> None:
        print_line(f"{', '.join(names_to_run)}: listening on {process.address}")

    start(names_to_run, kernel_settings, print_line, prepare_admin, announce_start)
