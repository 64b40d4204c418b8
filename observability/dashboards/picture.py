"""Draws a dashboard as one picture, for a reader without Grafana: the JSON's own panels, queries, units and
thresholds, with the data that the sources have.
"""

from io import BytesIO
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from observability.dashboards.drawing import FAINT, INK, Box, draw_panel
from observability.dashboards.sources import Document, Series

DOTS = 100
COLUMN = 0.56
LINE = 0.3
MARGIN = 0.2
HEAD = 0.7
COLUMNS = 24
PAPER = "#f4f5f7"
COLOURS = 96
"""Of the picture's palette: a drawing needs no more, and takes a third of the bytes."""


def draw_board(board: Document, data: dict[int, list[Series]], needs: dict[int, str], period: str) -> bytes:
    """A PNG. `data` and `needs` are by a panel's id: who would have to be there for data."""
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    width, height = COLUMNS * COLUMN + 2 * MARGIN, lines * LINE + HEAD + MARGIN
    with mpl.rc_context({"font.family": "DejaVu Sans", "font.size": 7, "text.parse_math": False}):
        figure = Figure(figsize=(width, height), dpi=DOTS, facecolor=PAPER)
        FigureCanvasAgg(figure)
        top = height - MARGIN - 0.1
        figure.text(MARGIN / width, top / height, board["title"], size=14, weight="bold", color=INK, va="top")
        figure.text(1 - MARGIN / width, top / height, period, size=8, color=FAINT, va="top", ha="right")
        subtitle = (top - 0.26) / height
        figure.text(MARGIN / width, subtitle, board["description"], size=8, color=FAINT, va="top")
        for panel in board["panels"]:
            box = _place(panel["gridPos"], width, height)
            if panel["type"] == "row":
                figure.text(box.x, box.y + box.height * 0.3, panel["title"], size=10, weight="bold", color=INK)
                continue
            outline = Rectangle((box.x, box.y), box.width, box.height, transform=figure.transFigure)
            outline.set(facecolor="white", edgecolor="#d8dbe0", linewidth=0.8, zorder=-1)
            figure.add_artist(outline)
            draw_panel(figure, box, panel, data.get(panel["id"], []), needs.get(panel["id"], ""))
        return _compress(figure)


def _place(place: dict[str, int], width: float, height: float) -> Box:
    """In shares of the figure, with a gap to the neighbours."""
    gap = 0.05
    left = MARGIN + place["x"] * COLUMN + gap
    bottom = height - HEAD - (place["y"] + place["h"]) * LINE + gap
    return Box(
        left / width, bottom / height, (place["w"] * COLUMN - 2 * gap) / width, (place["h"] * LINE - 2 * gap) / height
    )


def _compress(figure: Any) -> bytes:
    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png")
    with Image.open(drawn) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()
