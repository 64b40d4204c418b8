"""Draws amounts over time as bars: SVG of attributes alone, as the policy asks. The table below says the same."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 960, 240
_LEFT, _BOTTOM, _TOP = 84, 26, 12
MOST_BARS = 400
_LABELS = 8


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Tick:
    position: float
    label: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """`lines` are the horizontal ones with their amounts, `labels` stand under the bars."""

    bars: list[Bar]
    lines: list[Tick]
    labels: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT


def draw_bars(values: Sequence[tuple[str, int]], format_value: Callable[[int], str]) -> BarChart:
    """`values` by label, in their order. What is below zero (a day of refunds) hangs from the line of zero."""
    values = values[-MOST_BARS:]
    step = choose_step(max([value for _, value in values] + [0]), min([value for _, value in values] + [0]))
    highest = step * math.ceil(max([value for _, value in values] + [step]) / step)
    lowest = step * math.floor(min([value for _, value in values] + [0]) / step)
    scale = (HEIGHT - _TOP - _BOTTOM) / (highest - lowest)

    def place(value: float) -> float:
        return round(_TOP + (highest - value) * scale, 1)

    slot = (WIDTH - _LEFT) / max(1, len(values))
    bars = [
        Bar(
            round(_LEFT + index * slot + slot * 0.12, 1),
            place(max(value, 0)),
            round(min(slot * 0.76, 60), 1),
            round(max(abs(value) * scale, 1.0 if value else 0.0), 1),
            f"{label}: {format_value(value)}",
        )
        for index, (label, value) in enumerate(values)
    ]
    every = math.ceil(len(values) / _LABELS) if values else 1
    return BarChart(
        bars,
        [Tick(place(value), format_value(value)) for value in range(lowest, highest + 1, step)],
        [
            Tick(round(_LEFT + index * slot + min(slot, 60) / 2, 1), label)
            for index, (label, _) in enumerate(values)
            if index % every == 0
        ],
    )


def choose_step(highest: int, lowest: int) -> int:
    """1, 2 or 5 times a power of ten, so that there are three to six lines."""
    rough = max(1.0, (highest - lowest) / 4)
    power = 10 ** math.floor(math.log10(rough))
    return int(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
