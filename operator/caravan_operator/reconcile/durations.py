"""Durations as the schemas accept them (`1h30m`, `250ms`), and milliseconds as the brokers do."""

import re

_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def milliseconds(text: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))


def seconds(text: str) -> float:
    return milliseconds(text) / 1000


def duration(total: int) -> str:
    """The shortest text for so many milliseconds, in whole units."""
    for unit in ("h", "m", "s"):
        if total and total % _UNITS[unit] == 0:
            return f"{total // _UNITS[unit]}{unit}"
    return f"{total}ms"
