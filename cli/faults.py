"""`caravan faults`: what a running shop does wrong on purpose. The switch is in the jobs' Redis, where its processes
read it; those that were not started with CARAVAN_FAULTS=true never do.
"""

from datetime import timedelta
from typing import Literal

from caravan import fault_flags
from caravan.clock import format_rfc3339, utc_now
from caravan.runtime import fault_switch
from cli.configuration import load_kernel_settings
from cli.jobs import run_with_store
from cli.terminal import exit_with_error, print_json, print_line, print_table


def list_faults(output: Literal["table", "json"]) -> None:
    ends = run_with_store(lambda store: fault_switch.list_faults(store, utc_now()))
    rows = [
        (flag, format_rfc3339(ends[flag]) if flag in ends else None, meaning)
        for name, meaning in fault_flags.FAULTS.items()
        for flag in (name, *sorted(flag for flag in ends if flag.startswith(f"{name}:")))
    ]
    if output == "json":
        print_json([{"name": name, "on_until": end, "does": meaning} for name, end, meaning in rows])
        return
    print_table(
        "", ("fault", "on until", "what it does"), [(name, end or "off", meaning) for name, end, meaning in rows]
    )


def switch_fault_on(name: str, minutes: int) -> None:
    if not load_kernel_settings().faults:
        exit_with_error(
            "faults are not allowed here: set CARAVAN_FAULTS=true for this command and for the processes of the shop, "
            "and never where customers buy"
        )
    end = run_with_store(lambda store: fault_switch.switch_on(store, name, timedelta(minutes=minutes), utc_now()))
    print_line(f"{name} is on until {format_rfc3339(end)}; `caravan faults off {name}` ends it sooner")


def switch_faults_off(names: list[str]) -> None:
    run_with_store(lambda store: fault_switch.switch_off(store, names))
    print_line("off: " + (", ".join(names) or "all"))
