"""Durations as the schemas accept them (`1h30m`, `250ms`), and milliseconds as the brokers do."""

import re

_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def parse_milliseconds(text: str) -> int:
    return sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)(ms|h|m|s)", text))


def parse_seconds(text: str) -> float:
    return parse_milliseconds(text) / 1000


def format_duration(milliseconds: int) -> str:
    """The shortest text for so many milliseconds, in whole units."""
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _UNITS[unit] == 0:
            return f"{milliseconds // _UNITS[unit]}{unit}"
    return f"{milliseconds}ms"
