"""The dashboards keep their rules: every panel can be read, and asks for what somebody tells."""

import json
from typing import Any

import pytest

from observability.dashboards.declared import RECORDED, RULES, Metric, list_recording_rules, load_metrics
from observability.dashboards.grafana import render_board
from observability.dashboards.library import BOARDS
from observability.dashboards.lint import find_board_faults, list_panels
from observability.dashboards.model import NAMESPACE, SERVICE, Board, Panel, Query, Row

METRICS = load_metrics()
DESCRIPTION = "What somebody who is called at night has to know of it."
EXPECTED = {
    "shop",
    "services",
    "order-journey",
    "messaging",
    "kafka",
    "rabbitmq",
    "postgres",
    "redis",
    "jobs",
    "cache",
    "operator",
    "kubernetes",
    "slo",
    "telemetry",
}


def render(board: Board) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_board(board))
    return document


def build_board(text: str, legend: str = "x", **fields: Any) -> Board:
    """One panel with one query; the namespace is used, as the variable is declared."""
    panel = Panel("lines", "A title", DESCRIPTION, "s", (Query(text, legend), Query(NAMESPACES, "y")))
    return Board("example", "Example", DESCRIPTION, (Row("Why?", (panel,)),), **fields)


NAMESPACES = 'sum(up{namespace=~"$namespace"})'


def test_every_dashboard_is_there() -> None:
    assert {board.name for board in BOARDS} == EXPECTED
    assert len({board.uid for board in BOARDS}) == len({board.title for board in BOARDS}) == len(BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_keeps_the_rules(board: Board) -> None:
    assert find_board_faults(render(board), METRICS) == []


def test_the_same_board_is_the_same_bytes() -> None:
    for board in BOARDS:
        assert render_board(board) == render_board(board)


def test_every_dashboard_marks_deployments_and_lets_the_source_be_chosen() -> None:
    for board in BOARDS:
        document = render(board)
        assert "caravan_build_info" in document["annotations"]["list"][0]["expr"]
        sources = {each["name"] for each in document["templating"]["list"] if each["type"] == "datasource"}
        used = {panel["datasource"]["type"] for panel in list_panels(document)}
        assert used <= sources
        assert all(
            panel["datasource"]["uid"] == f"${{{panel['datasource']['type']}}}" for panel in list_panels(document)
        )


def test_durations_lead_to_traces() -> None:
    """The p95 of requests, messages, jobs and orders has exemplars."""
    with_exemplars = {
        board.name for board in BOARDS for panel in board.panels if any(query.exemplars for query in panel.queries)
    }
    assert with_exemplars >= {"services", "messaging", "jobs", "shop", "order-journey"}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("sum(rate(caravan_no_such_metric_total[5m]))", "caravan_no_such_metric_total is no declared metric"),
        ('sum(caravan_outbox_pending{colour="red"})', "caravan_outbox_pending has no label colour"),
        ("sum by (channel) (caravan_outbox_pending)", "sum names channel, which no series has"),
        ("sum(rate(caravan_outbox_pending[5m]))", "rate() of caravan_outbox_pending, which is no counter"),
        ("sum(caravan_dead_letters_total)", "caravan_dead_letters_total is a counter: its value alone says nothing"),
        ("sum(caravan_outbox_pending", "can't be read"),
        (
            "sum by (service) (caravan_outbox_pending) / sum by (channel) (caravan_consumer_lag)",
            "/ matches ['service'] with ['channel']",
        ),
        ("sum by (service) (caravan_outbox_pending) * on (queue) sum(up)", ""),
        (
            "sum by (service) (caravan_outbox_pending) * on (service) max by (queue) (caravan_jobs)",
            "on names service, which one side lacks",
        ),
        (
            "histogram_quantile(0.9, sum(rate(caravan_outbox_lag_seconds_bucket[5m])))",
            "histogram_quantile of series without le",
        ),
        ('sum(caravan_outbox_pending{service=~"$servce"})', "$servce is used and not declared"),
    ],
)
def test_a_query_that_can_not_mean_what_it_says_is_found(text: str, fault: str) -> None:
    faults = find_board_faults(render(build_board(text)), METRICS)
    assert bool(faults) == bool(fault)
    assert all(fault in each for each in faults)


def test_a_legend_must_name_what_the_series_have() -> None:
    query = "sum by (service) (caravan_outbox_pending)"
    assert find_board_faults(render(build_board(query, "{{service}}")), METRICS) == []
    assert find_board_faults(render(build_board(query, "{{channel}}")), METRICS) == [
        "A title: the legend names channel, which no series of the query has"
    ]
    assert "no legend" in find_board_faults(render(build_board(query, "")), METRICS)[0]


def test_a_variable_that_nobody_uses_is_found() -> None:
    board = build_board("sum(caravan_outbox_pending)", variables=(NAMESPACE, SERVICE))
    assert find_board_faults(render(board), METRICS) == ["$service is declared and not used"]


def test_what_a_reader_needs_is_missed() -> None:
    document = render(build_board("sum(up)"))
    panel = document["panels"][1]
    panel["description"], panel["title"] = "", " "
    del panel["fieldConfig"]["defaults"]["unit"]
    faults = find_board_faults(document, METRICS)
    assert [fault.split(": ")[1] for fault in faults] == [
        "no title",
        "its description is no sentence that helps",
        "no unit",
    ]


def test_panels_that_lie_over_each_other_are_found() -> None:
    document = render(build_board("sum(up)"))
    document["panels"][1]["gridPos"]["y"] = 0
    assert find_board_faults(document, METRICS) == ["A title lies over Why?"]
    document["panels"][1]["gridPos"].update(y=1, x=20)
    assert find_board_faults(document, METRICS) == ["A title is wider than the dashboard"]


def test_every_recorded_metric_of_a_panel_has_its_rule() -> None:
    recorded = {name for name, _, _ in list_recording_rules()}
    promised = {name for name, metric in METRICS.items() if metric.source == RECORDED}
    assert promised <= recorded or not RULES.exists()


def test_a_recording_rule_is_a_metric_with_its_labels() -> None:
    labels = METRICS["caravan_handler_duration_seconds_bucket"]
    assert labels == Metric("counter", labels.labels, "the shop")
    assert {"le", "service", "channel", "namespace", "instance"} <= labels.labels
