"""Which panels have data: every query of every dashboard is run, and a panel without an answer needs a reason."""

from dataclasses import dataclass
from typing import Any

from observability.dashboards.declared import Metric
from observability.dashboards.lint import list_panels, list_prometheus_queries
from observability.dashboards.promql import list_metric_names, parse_query
from observability.dashboards.sources import Sources

HERE = "the shop"
NAMES = {"loki": "Loki", "jaeger": "Jaeger"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """`needs`: who would have to be there for data, of whom nothing is seen."""

    board: str
    panel: str
    series: int
    needs: str = ""


def check_boards(boards: list[dict[str, Any]], sources: Sources, metrics: dict[str, Metric]) -> list[Outcome]:
    present = {metrics[name].source for name in sources.list_metric_names() if name in metrics}
    return [
        Outcome(
            board["title"],
            panel["title"],
            len(sources.ask_panel(board, panel)),
            ", ".join(
                sorted(list_needs(panel, metrics) - present - {NAMES.get(each, "") for each in sources.addresses})
            ),
        )
        for board in boards
        for panel in list_panels(board)
    ]


def list_needs(panel: dict[str, Any], metrics: dict[str, Metric]) -> set[str]:
    """Who tells what the panel shows, apart from the shop itself."""
    if name := NAMES.get(panel["datasource"]["type"]):
        return {name}
    asked = {
        name for target in list_prometheus_queries(panel) for name in list_metric_names(parse_query(target["expr"]))
    }
    return {metrics[name].source for name in asked if name in metrics} - {HERE}


def render_outcomes(outcomes: list[Outcome]) -> str:
    with_data = [outcome for outcome in outcomes if outcome.series]
    lines = [
        f"{outcome.board}: {outcome.panel}: {f'needs {outcome.needs}' if outcome.needs else 'RETURNED NOTHING'}"
        for outcome in outcomes
        if not outcome.series
    ]
    excused = sum(bool(outcome.needs) for outcome in outcomes if not outcome.series)
    lines.append(
        f"{len(with_data)} of {len(outcomes)} panels returned data, {sum(each.series for each in with_data)} series in "
        f"all; {excused} need what is not here; {len(outcomes) - len(with_data) - excused} returned nothing"
    )
    return "\n".join(lines)
