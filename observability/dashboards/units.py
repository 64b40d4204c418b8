"""Numbers with their units, as short as a reader needs them."""

from collections.abc import Callable

SUFFIXES = {"reqps": " req/s", "ops": " /s", "mps": " msg/s"}
STEPS_OF_A_THOUSAND = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
STEPS_OF_BYTES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
STEPS_OF_TIME = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"))


def format_value(value: float, unit: str, decimals: int | None = None) -> str:
    return FORMATS.get(unit, _format_count)(value, decimals) + SUFFIXES.get(unit, "")


def _format_count(value: float, decimals: int | None) -> str:
    for size, letter in STEPS_OF_A_THOUSAND:
        if abs(value) >= size:
            return _round(value / size, decimals) + letter
    return _round(value, decimals)


def _format_bytes(value: float, decimals: int | None) -> str:
    return _scale(value, STEPS_OF_BYTES, "B", decimals)


def _format_seconds(value: float, decimals: int | None) -> str:
    if 0 < abs(value) < 1e-3:
        return _round(value * 1e6, decimals) + " µs"
    return _scale(value, STEPS_OF_TIME, "s", decimals)


def _format_share(value: float, decimals: int | None) -> str:
    return _round(value * 100, decimals) + " %"


def _scale(value: float, steps: tuple[tuple[float, str], ...], smallest: str, decimals: int | None) -> str:
    for size, name in steps:
        if abs(value) >= size:
            return f"{_round(value / size, decimals)} {name}"
    return f"{_round(value, decimals)} {smallest}"


def _round(value: float, decimals: int | None) -> str:
    """Three digits that count, or what the panel asks for."""
    if decimals is None:
        decimals = 0 if abs(value) >= 100 or value == int(value) else 1 if abs(value) >= 10 else 2
    return f"{value:,.{decimals}f}"


STEPS = {"bytes": STEPS_OF_BYTES, "s": STEPS_OF_TIME, "percentunit": ((0.01, "%"),)}
FORMATS: dict[str, Callable[[float, int | None], str]] = {
    "bytes": _format_bytes,
    "s": _format_seconds,
    "percentunit": _format_share,
}
