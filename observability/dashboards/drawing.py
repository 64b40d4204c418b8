"""Draws one panel into its box of the figure, as Grafana's panel of that kind looks."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator

from observability.dashboards.sources import Document, Series
from observability.dashboards.units import STEPS, format_value

INK = "#1f2733"
FAINT = "#6b7480"
GRID = "#e6e8eb"
PALETTE = ("#3274d9", "#e0752d", "#2f9e44", "#a352cc", "#c9a800", "#d6455d", "#18a0a8", "#8a6d3b", "#5b6b7f", "#e377c2")
COLOURS = {"green": "#2f9e44", "yellow": "#d9a400", "orange": "#e8730c", "red": "#d92d20", "blue": "#3274d9"}
MAX_LEGEND = 6
MAX_BARS = 10


@dataclass(frozen=True, slots=True)
class Box:
    """A part of the figure, in shares of it, from the lower left corner."""

    x: float
    y: float
    width: float
    height: float

    def cut(self, left: float, bottom: float, right: float, top: float) -> "Box":
        """The rest, after inches of the figure were taken off each side."""
        return Box(self.x + left, self.y + bottom, self.width - left - right, self.height - bottom - top)


def draw_panel(figure: Figure, box: Box, panel: Document, series: list[Series], needs: str) -> None:
    width, height = figure.get_size_inches()
    figure.text(
        box.x + 0.08 / width,
        box.y + box.height - 0.07 / height,
        panel["title"],
        size=8,
        weight="bold",
        color=INK,
        va="top",
    )
    inner = box.cut(0.08 / width, 0.06 / height, 0.08 / width, 0.27 / height)
    if not series:
        text = f"no data here: needs {needs}" if needs else "no data"
        figure.text(inner.x + inner.width / 2, inner.y + inner.height / 2, text, ha="center", va="center", color=FAINT)
        return
    kind = "traces" if panel["datasource"]["type"] == "jaeger" else panel["type"]
    DRAWERS[kind](figure, inner, panel, series)


def _defaults(panel: Document) -> Document:
    return dict(panel.get("fieldConfig", {}).get("defaults", {}))


def _show(panel: Document, value: float) -> str:
    defaults = _defaults(panel)
    for mapping in defaults.get("mappings", ()):
        if result := mapping["options"].get(f"{value:g}"):
            return str(result["text"])
    return format_value(value, defaults.get("unit", "none"), defaults.get("decimals"))


def _colour_of(panel: Document, value: float) -> str:
    colour = "blue"
    for step in _defaults(panel).get("thresholds", {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            colour = step["color"]
    return COLOURS[colour]


def _add_axes(figure: Figure, box: Box) -> Axes:
    axes = figure.add_axes((box.x, box.y, box.width, box.height))
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    axes.tick_params(length=0, colors=FAINT, labelsize=6.5)
    return axes


def _draw_lines(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    width, height = figure.get_size_inches()
    ordered = sorted(series, key=lambda each: -max(value for _, value in each.points))
    rows = min(len(ordered), MAX_LEGEND)
    axes = _add_axes(figure, box.cut(0.5 / width, (0.3 + 0.135 * rows) / height, 0.05 / width, 0.02 / height))
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    custom = _defaults(panel).get("custom", {})
    if custom.get("stacking", {}).get("mode") == "normal":
        _stack(axes, ordered)
    else:
        for index, each in enumerate(ordered):
            times: list[Any] = [datetime.fromtimestamp(time, UTC) for time, _ in each.points]
            values = [value for _, value in each.points]
            axes.plot(times, values, color=PALETTE[index % len(PALETTE)], linewidth=1.1, zorder=10 - min(index, 9))
    _scale(axes, panel)
    _write_legend(figure, box, panel, ordered, rows)


def _stack(axes: Axes, series: list[Series]) -> None:
    """What has no point at a time adds nothing then."""
    times = sorted({time for each in series for time, _ in each.points})
    values = [[dict(each.points).get(time, 0.0) for time in times] for each in series]
    colours = [PALETTE[index % len(PALETTE)] for index in range(len(series))]
    moments: list[Any] = [datetime.fromtimestamp(time, UTC) for time in times]
    axes.stackplot(moments, values, colors=colours, alpha=0.75)


def _scale(axes: Axes, panel: Document) -> None:
    defaults = _defaults(panel)
    low, high = axes.get_ylim()
    if defaults.get("min") is not None:
        low = defaults["min"]
    if defaults.get("max") is not None:
        high = defaults["max"] * 1.03
    for step in defaults.get("thresholds", {}).get("steps", ()):
        # A line far above everything would press the data flat.
        if step["value"] is not None and low <= step["value"] <= max(high * 1.3, low + 1e-12):
            axes.axhline(step["value"], color=COLOURS[step["color"]], linewidth=0.8, linestyle=(0, (4, 3)), zorder=1)
            high = max(high, step["value"] * 1.03)
    axes.set_ylim(low, high if high > low else low + 1)
    axes.yaxis.set_major_locator(_choose_ticks(axes, defaults.get("unit", "none")))
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: _show({**panel, "fieldConfig": _without_decimals(panel)}, value))
    )
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.margins(x=0)


def _choose_ticks(axes: Axes, unit: str) -> Locator:
    """Round numbers in the unit that is shown."""
    low, high = axes.get_ylim()
    size = next((size for size, _ in STEPS.get(unit, ()) if high >= size), 1)
    return FixedLocator([tick * size for tick in MaxNLocator(4).tick_values(low / size, high / size)])


def _without_decimals(panel: Document) -> Document:
    """The axis has its own: two ticks must not read alike."""
    return {"defaults": {key: value for key, value in _defaults(panel).items() if key != "decimals"}}


def _write_legend(figure: Figure, box: Box, panel: Document, series: list[Series], rows: int) -> None:
    width, height = figure.get_size_inches()
    top = box.y + (0.135 * rows + 0.02) / height
    for index, each in enumerate(series[:rows]):
        y = top - 0.135 * (index + 0.5) / height
        name, last = each.name, each.points[-1][1]
        has_space = box.width * width > 3.5
        limit = int(box.width * width / 0.07) - (30 if has_space else 14)
        name = name if len(name) <= limit else name[: limit - 1] + "…"
        peak = max(value for _, value in each.points)
        figure.text(box.x, y, "━", size=7, color=PALETTE[index % len(PALETTE)], va="center")
        figure.text(box.x + 0.14 / width, y, name, size=6.5, color=INK, va="center")
        right = box.x + box.width
        figure.text(right, y, f"{_show(panel, last)}", size=6.5, color=INK, va="center", ha="right")
        figure.text(
            right - 0.75 / width, y, f"max {_show(panel, peak)}", size=6.5, color=FAINT, va="center", ha="right"
        )


def _draw_stat(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    shown = series[:4]
    for index, each in enumerate(shown):
        value = each.points[-1][1]
        x = box.x + box.width * (index + 0.5) / len(shown)
        size = 17 if len(shown) < 3 else 12
        y = box.y + box.height * (0.58 if len(shown) > 1 else 0.5)
        figure.text(
            x,
            y,
            _show(panel, value),
            size=size,
            weight="bold",
            color=_colour_of(panel, value),
            ha="center",
            va="center",
        )
        if len(shown) > 1:
            figure.text(x, box.y + box.height * 0.16, each.name, size=7, color=FAINT, ha="center", va="center")


def _draw_bars(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    width = figure.get_size_inches()[0]
    ordered = sorted(series, key=lambda each: -each.points[-1][1])[:MAX_BARS]
    most = max([each.points[-1][1] for each in ordered] + [_defaults(panel).get("max") or 0, 1e-12])
    limit = int(box.width * width / 0.07)
    line = box.height / max(len(ordered), 4)
    for index, each in enumerate(ordered):
        value = each.points[-1][1]
        y = box.y + box.height - line * (index + 0.5)
        name = each.name if len(each.name) <= limit - 12 else each.name[: limit - 13] + "…"
        axes = figure.add_axes((box.x, y - line * 0.42, box.width, line * 0.3))
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.barh(0, 1, color="#eef0f2", height=1)
        axes.barh(0, max(value, 0) / most, color=_colour_of(panel, value), height=1)
        figure.text(box.x, y + 0.09 * line, name, size=6.5, color=INK, va="center")
        figure.text(
            box.x + box.width,
            y + 0.09 * line,
            _show(panel, value),
            size=7,
            weight="bold",
            color=INK,
            va="center",
            ha="right",
        )


def _draw_states(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    width, height = figure.get_size_inches()
    shown = sorted(series, key=lambda each: (-max(value for _, value in each.points), each.name))[:12]
    axes = _add_axes(figure, box.cut(1.9 / width, 0.2 / height, 0.05 / width, 0.02 / height))
    names = _defaults(panel)["mappings"][0]["options"]
    for row, each in enumerate(shown):
        step = (each.points[-1][0] - each.points[0][0]) / max(len(each.points) - 1, 1) or 60
        for time, value in each.points:
            colour = COLOURS[names.get(f"{value:g}", {"color": "blue"})["color"]]
            axes.barh(row, step / 86_400, left=date2num(datetime.fromtimestamp(time, UTC)), color=colour, height=0.7)
    axes.set_yticks(range(len(shown)), [each.name[:34] for each in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.margins(x=0)
    legend = ", ".join(str(name["text"]) for name in names.values())
    figure.text(box.x, box.y + 0.05 / height, legend, size=6.5, color=FAINT)


def _draw_table(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    ordered = sorted(series, key=lambda each: -each.points[-1][1])
    columns = [name for name in ordered[0].labels if name not in ("__name__", "le")]
    rows = [[*(each.labels.get(name, "") for name in columns), _show(panel, each.points[-1][1])] for each in ordered]
    _write_rows(figure, box, [*columns, "value"], rows)


def _draw_traces(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    columns = list(series[0].labels)
    _write_rows(figure, box, columns, [[each.labels[name] for name in columns] for each in series])


def _write_rows(figure: Figure, box: Box, columns: list[str], rows: list[list[str]]) -> None:
    height = figure.get_size_inches()[1]
    line = 0.15 / height
    fitting = int(box.height / line) - 1
    widths = [max(len(name), *(len(row[index]) for row in rows[:fitting])) + 3 for index, name in enumerate(columns)]
    for number, row in enumerate([columns, *rows[:fitting]]):
        y = box.y + box.height - line * (number + 0.5)
        for index, text in enumerate(row):
            x = box.x + box.width * sum(widths[:index]) / sum(widths)
            figure.text(
                x, y, text, size=6.5, color=INK if number else FAINT, weight="normal" if number else "bold", va="center"
            )


def _draw_logs(figure: Figure, box: Box, panel: Document, series: list[Series]) -> None:
    width, height = figure.get_size_inches()
    line = 0.14 / height
    limit = int(box.width * width / 0.062)
    for number, each in enumerate(series[-int(box.height / line) :]):
        y = box.y + box.height - line * (number + 0.5)
        time = datetime.fromtimestamp(each.points[0][0], UTC).strftime("%H:%M:%S.%f")[:-3]
        text = f"{time}  {each.name}".replace("\n", " ")[:limit]
        figure.text(box.x, y, text, size=6, family="DejaVu Sans Mono", color=INK, va="center")


DRAWERS: dict[str, Callable[[Figure, Box, Document, list[Series]], Any]] = {
    "timeseries": _draw_lines,
    "stat": _draw_stat,
    "bargauge": _draw_bars,
    "state-timeline": _draw_states,
    "table": _draw_table,
    "logs": _draw_logs,
    "traces": _draw_traces,
}
