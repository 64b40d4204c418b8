"""What is wrong with a dashboard's JSON, as a list of sentences: the rules that every dashboard keeps."""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from observability.dashboards.declared import Metric
from observability.dashboards.promql import find_faults, list_output_labels, parse_query

WIDTH = 24
VARIABLE = re.compile(r"\$\{?(?!__)([a-z_]+)")
LEGEND = re.compile(r"\{\{(\w+)\}\}")
WITHOUT_UNIT = {"logs", "row"}

Document = dict[str, Any]


def find_board_faults(board: Document, metrics: dict[str, Metric]) -> list[str]:
    panels = list_panels(board)
    faults = [f"{panel['title']}: {fault}" for panel in panels for fault in _find_panel_faults(panel, metrics)]
    faults += [f"two panels are called {title}" for title, count in _count(panels, "title") if count > 1]
    faults += [f"two panels have the id {number}" for number, count in _count(board["panels"], "id") if count > 1]
    faults += _find_overlaps(board["panels"])
    faults += _find_variable_faults(board, metrics)
    return faults


def list_panels(board: Document) -> list[Document]:
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def list_prometheus_queries(panel: Document) -> list[Document]:
    return [target for target in panel["targets"] if panel["datasource"]["type"] == "prometheus"]


def _count(panels: list[Document], key: str) -> list[tuple[Any, int]]:
    return list(Counter(panel.get(key) for panel in panels if panel.get(key) is not None).items())


def _find_panel_faults(panel: Document, metrics: dict[str, Metric]) -> Iterator[str]:
    if not panel.get("title", "").strip():
        yield "no title"
    if len(panel.get("description", "")) < 30 or not panel["description"].endswith("."):
        yield "its description is no sentence that helps"
    if not panel["targets"]:
        yield "no query"
    queries = list_prometheus_queries(panel)
    if queries and not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    labels = {name: metric.labels for name, metric in metrics.items()}
    counters = {name for name, metric in metrics.items() if metric.type == "counter"}
    for target in queries:
        faults = find_faults(target["expr"], labels, counters)
        yield from faults
        if faults:
            continue
        left = list_output_labels(parse_query(target["expr"]), labels)
        for name in LEGEND.findall(target.get("legendFormat", "")):
            if name not in left:
                yield f"the legend names {name}, which no series of the query has"
        if panel["type"] != "table" and not target.get("legendFormat"):
            yield "no legend: Grafana would show all labels of a series"


def _find_overlaps(panels: list[Document]) -> Iterator[str]:
    taken: dict[tuple[int, int], str] = {}
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > WIDTH:
            yield f"{panel['title']} is wider than the dashboard"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{panel['title']} lies over {taken[x, y]}"
                    return
                taken[x, y] = panel["title"]


def _find_variable_faults(board: Document, metrics: dict[str, Metric]) -> Iterator[str]:
    variables = board["templating"]["list"]
    declared = {variable["name"] for variable in variables}
    texts = [board["panels"], board["annotations"], [variable.get("query") for variable in variables]]
    used = set(VARIABLE.findall(str(texts)))
    yield from (f"${name} is used and not declared" for name in sorted(used - declared))
    yield from (f"${name} is declared and not used" for name in sorted(declared - used))
    for variable in variables:
        if variable["type"] == "query":
            metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["query"])[0]
            if metric not in metrics or label not in metrics[metric].labels:
                yield f"${variable['name']}: no {metric} with a label {label} is declared"
