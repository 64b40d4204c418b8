"""Every query of every dashboard finds the series that it asks for: promtool runs them on made series, also those of
backends that no test has.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from promql_parser import MatchOp

from observability.dashboards.declared import Metric, load_metrics
from observability.dashboards.grafana import DEPLOYMENTS, render_board
from observability.dashboards.library import BOARDS
from observability.dashboards.lint import list_panels, list_prometheus_queries
from observability.dashboards.promql import GRAFANA_INTERVALS, iterate_selectors, parse_query

PROMTOOL = shutil.which("promtool")
METRICS = load_metrics()
EDGES = ("0.1", "1", "+Inf")
MINUTES = 120
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")


def fill_in(text: str) -> str:
    return re.sub(r"\$[a-z_]+", ".*", GRAFANA_INTERVALS.sub("5m", text))


def list_queries() -> Iterator[tuple[str, str]]:
    for board in BOARDS:
        for panel in list_panels(json.loads(render_board(board))):
            for target in list_prometheus_queries(panel):
                yield f"{board.title}: {panel['title']} {target['refId']}", fill_in(target["expr"])


def make_value(name: str, matchers: list[Any]) -> str:
    """One that all matchers of a label take."""
    for matcher in matchers:
        if matcher.op == MatchOp.Equal:
            return str(matcher.value)
        if matcher.op == MatchOp.Re and matcher.value != ".*":
            return str(matcher.value.split("|")[0].replace(".*", "x").replace("..", "00"))
    return f"a-{name}"


def make_series(selector: Any, metric: Metric) -> Iterator[tuple[str, str]]:
    matchers = selector.matchers.matchers
    values = {name: make_value(name, [each for each in matchers if each.name == name]) for name in metric.labels}
    for number, edge in enumerate(EDGES if "le" in metric.labels else ("",), start=1):
        labels = {**values, **({"le": edge} if edge else {})}
        written = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()))
        increment = 60 * number if metric.type == "counter" else 0
        yield f"{selector.name}{{{written}}}", f"5000+{increment}x{MINUTES}"


def run_promtool(folder: Path, series: dict[str, str], expected: list[dict[str, Any]]) -> str:
    document = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": expected,
            }
        ],
    }
    file = folder / "queries.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False, width=10_000))
    assert PROMTOOL
    done = subprocess.run(
        [PROMTOOL, "test", "rules", str(file)], capture_output=True, text=True, timeout=120, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def expect(text: str, minute: int, *values: float) -> dict[str, Any]:
    samples = [{"labels": "{}", "value": value} for value in values]
    return {"expr": text, "eval_time": f"{minute}m", "exp_samples": samples}


@needs_promtool
def test_every_query_finds_its_series(tmp_path: Path) -> None:
    series: dict[str, str] = {}
    queries = dict(list_queries())
    for text in queries.values():
        for selector, _ in iterate_selectors(parse_query(text)):
            series |= dict(make_series(selector, METRICS[selector.name]))
    expected = [expect(f"count({text}) > bool 0", MINUTES - 10, 1) for text in queries.values()]
    assert run_promtool(tmp_path, series, expected) == ""
    assert len(expected) > 190


@needs_promtool
def test_a_query_that_finds_nothing_is_told(tmp_path: Path) -> None:
    failure = run_promtool(tmp_path, {"up{job='a'}": "1x60"}, [expect("count(down) > bool 0", 30, 1)])
    assert "count(down)" in failure


@needs_promtool
def test_a_deployment_is_marked_once(tmp_path: Path) -> None:
    series = {
        'caravan_build_info{version="1", commit="a", instance="x"}': "1x40 stale",
        'caravan_build_info{version="2", commit="b", instance="y"}': "_x30 1x60",
    }
    marks = [expect(f"count({DEPLOYMENTS})", minute, *values) for minute, values in {29: (), 30: (1,), 32: ()}.items()]
    assert run_promtool(tmp_path, series, marks) == ""
