"""Draws the map of the services: each a box on an ellipse, and between two of them the messages that flow.

It is SVG of attributes alone, since the policy allows no styles in a page; the colours are in the stylesheet. The
tables below it say the same in words.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

WIDTH, HEIGHT = 1000, 600
BOX_WIDTH, BOX_HEIGHT = 178, 56
_RADIUS_X, _RADIUS_Y = 405, 255
_PULL = 0.42
"""How far a line bends towards the middle."""
ORDER = (
    "gateway",
    "catalog",
    "inventory",
    "orders",
    "processing",
    "payments",
    "shipping",
    "notifications",
    "recommendations",
    "analytics",
    "identity",
)
"""Neighbours that talk much stand together; services that are not named here come last."""


@dataclass(frozen=True, slots=True)
class MapBox:
    """`x` and `y` are its middle."""

    name: str
    x: float
    y: float
    state: str
    requests: float | None
    waiting: int

    @property
    def left(self) -> float:
        return round(self.x - BOX_WIDTH / 2, 1)

    @property
    def top(self) -> float:
        return round(self.y - BOX_HEIGHT / 2, 1)


@dataclass(frozen=True, slots=True)
class MapLine:
    """Messages from one service to another, over all channels. `path` is SVG's; `flow`: none, slow, steady or fast."""

    source: str
    target: str
    path: str
    per_second: float
    channels: list[str]
    flow: str


def draw_map(services: Sequence[dict[str, Any]], channels: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`services` and `channels` as `/v1/system` has them."""
    boxes = {box.name: box for box in _place_boxes(services)}
    rates: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for channel in channels:
        for source in channel["publishers"]:
            for subscription in channel["subscriptions"]:
                if source in boxes and subscription["service"] in boxes and source != subscription["service"]:
                    # What a reader handled of a channel with several publishers, each gets an equal share of.
                    rate = (subscription["handled"]["per_second"] or 0.0) / len(channel["publishers"])
                    rates.setdefault((source, subscription["service"]), []).append((channel["name"], rate))
    lines = [_draw_line(boxes[source], boxes[target], found) for (source, target), found in sorted(rates.items())]
    return {
        "width": WIDTH,
        "height": HEIGHT,
        "box_width": BOX_WIDTH,
        "box_height": BOX_HEIGHT,
        "boxes": list(boxes.values()),
        "lines": sorted(lines, key=lambda line: line.per_second),
    }


def _place_boxes(services: Sequence[dict[str, Any]]) -> Iterable[MapBox]:
    ranks = {name: rank for rank, name in enumerate(ORDER)}
    ordered = sorted(services, key=lambda service: (ranks.get(service["name"], len(ORDER)), service["name"]))
    for index, service in enumerate(ordered):
        angle = 2 * math.pi * index / len(ordered) - math.pi / 2
        yield MapBox(
            service["name"],
            round(WIDTH / 2 + _RADIUS_X * math.cos(angle), 1),
            round(HEIGHT / 2 + _RADIUS_Y * math.sin(angle), 1),
            service["state"],
            service["requests"]["answered"]["per_second"],
            service["waiting"],
        )


def _draw_line(source: MapBox, target: MapBox, found: list[tuple[str, float]]) -> MapLine:
    """Curved towards the middle, from edge to edge; the way back is bent to its other side."""
    per_second = sum(rate for _, rate in found)
    middle_x, middle_y = (source.x + target.x) / 2, (source.y + target.y) / 2
    length = math.hypot(target.x - source.x, target.y - source.y)
    aside_x, aside_y = (source.y - target.y) / length * 14, (target.x - source.x) / length * 14
    bend_x = middle_x + (WIDTH / 2 - middle_x) * _PULL + aside_x
    bend_y = middle_y + (HEIGHT / 2 - middle_y) * _PULL + aside_y
    start_x, start_y = _leave_box(source, bend_x, bend_y, 2)
    end_x, end_y = _leave_box(target, bend_x, bend_y, 7)
    flow = "none" if per_second < 0.05 else "slow" if per_second < 5 else "steady" if per_second < 50 else "fast"
    path = f"M{start_x:.1f} {start_y:.1f}Q{bend_x:.1f} {bend_y:.1f} {end_x:.1f} {end_y:.1f}"
    return MapLine(source.name, target.name, path, per_second, sorted(name for name, _ in found), flow)


def _leave_box(box: MapBox, x: float, y: float, gap: float) -> tuple[float, float]:
    """Where the straight way from the middle of a box to a point crosses its edge, and a little further."""
    dx, dy = x - box.x, y - box.y
    shares = [(BOX_WIDTH / 2 + gap) / abs(dx) if dx else math.inf, (BOX_HEIGHT / 2 + gap) / abs(dy) if dy else math.inf]
    share = min(1.0, *shares)
    return box.x + dx * share, box.y + dy * share
