"""The clock of one process, shifted by libfaketime while it runs. Only what tells the time of day: waits and deadlines
go by the clock that never jumps, as they do when somebody sets the clock of a machine.
"""

from pathlib import Path

from tests.support.backends.native import find_faketime


def explain_no_clock() -> str:
    """Why no clock can be shifted here; nothing where one can."""
    return "" if find_faketime() else "libfaketime is missing (make brokers)"


def build_clock_settings(file: Path) -> dict[str, str]:
    """The environment of a process whose clock follows `file`."""
    shift_clock(file, 0)
    return {
        "LD_PRELOAD": str(find_faketime()),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def shift_clock(file: Path, seconds: int) -> None:
    part = file.with_suffix(".part")
    part.write_text(f"{seconds:+d}\n")
    part.rename(file)
