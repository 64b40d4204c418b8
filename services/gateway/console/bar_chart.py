"""Draws amounts over time as bars: SVG of attributes alone, as the policy asks. The table below says the same.

Across, places are percentages, so that a phone shows all of it and letters keep their size.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

HEIGHT = 240
_BOTTOM, _TOP = 26, 18
MOST_BARS = 400
_LABELS = 8
_WIDEST_BAR = 8.0
_EDGE = 10.0
"""So near to it a label begins or ends at its bar, and is not cut off."""


@dataclass(frozen=True, slots=True)
class Bar:
    """`x` and `width` in percent, the others in pixels."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Label:
    """`is_extra`: left out where there is little room."""

    x: float
    text: str
    anchor: str
    is_extra: bool


@dataclass(frozen=True, slots=True)
class BarChart:
    """`lines` are the horizontal ones with their amounts, `labels` stand under the bars."""

    bars: list[Bar]
    lines: list[Line]
    labels: list[Label]
    height: int = HEIGHT


def draw_bars(values: Sequence[tuple[str, int]], format_value: Callable[[int], str]) -> BarChart:
    """`values` by label, in their order. What is below zero (a day of refunds) hangs from the line of zero."""
    values = values[-MOST_BARS:]
    step = choose_step(max([value for _, value in values] + [0]), min([value for _, value in values] + [0]))
    highest = step * math.ceil(max([value for _, value in values] + [step]) / step)
    lowest = step * math.floor(min([value for _, value in values] + [0]) / step)
    scale = (HEIGHT - _TOP - _BOTTOM) / (highest - lowest)

    def place(value: float) -> float:
        return round(_TOP + (highest - value) * scale, 1)

    slot = 100 / max(1, len(values))
    bar_width = min(slot * 0.76, _WIDEST_BAR)
    bars = [
        Bar(
            round(index * slot + slot * 0.12, 2),
            place(max(value, 0)),
            round(bar_width, 2),
            round(max(abs(value) * scale, 1.0 if value else 0.0), 1),
            f"{label}: {format_value(value)}",
        )
        for index, (label, value) in enumerate(values)
    ]
    every = math.ceil(len(values) / _LABELS) if values else 1
    labels = [
        _place_label(values[index][0], bars[index], is_extra=number % 2 == 1)
        for number, index in enumerate(range(0, len(values), every))
    ]
    return BarChart(
        bars, [Line(place(value), format_value(value)) for value in range(lowest, highest + 1, step)], labels
    )


def _place_label(text: str, bar: Bar, *, is_extra: bool) -> Label:
    middle = bar.x + bar.width / 2
    if middle < _EDGE:
        return Label(bar.x, text, "start", is_extra)
    if middle > 100 - _EDGE:
        return Label(round(bar.x + bar.width, 2), text, "end", is_extra)
    return Label(round(middle, 2), text, "middle", is_extra)


def choose_step(highest: int, lowest: int) -> int:
    """1, 2 or 5 times a power of ten, so that there are three to six lines."""
    rough = max(1.0, (highest - lowest) / 4)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
