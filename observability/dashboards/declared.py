"""Every metric that a panel may ask for: the shop's and its operator's as declared, the recording rules', and those
of others.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from observability.dashboards.foreign_metrics import TABLE, MetricType
from observability.dashboards.promql import list_metric_names, list_output_labels, parse_query

ROOT = Path(__file__).parents[2]
RULES = ROOT / "observability" / "prometheus" / "rules"
RECORDED = "the recording rules"
"""Those that panels ask for stand in `foreign_metrics.py` too; a test compares them with the rules."""
TARGET_LABELS = frozenset({"instance", "job", "namespace", "pod"})
"""What Prometheus adds to whatever it scrapes; outside Kubernetes the last two are missing."""


@dataclass(frozen=True, slots=True)
class Metric:
    """`source` names who tells it: a shop without it has no such series."""

    type: MetricType
    labels: frozenset[str]
    source: str


def load_metrics() -> dict[str, Metric]:
    """By the names that series have: a histogram's are those of its parts."""
    metrics: dict[str, Metric] = {}
    for source, lines in TABLE.items():
        for line in filter(None, map(str.strip, lines.splitlines())):
            name, kind, *labels = line.split()
            metrics |= _expand(name, kind, frozenset(labels), source)
    for name, metric in json.loads((ROOT / "docs" / "metrics.json").read_text()).items():
        source = "the operator" if name.startswith("caravan_operator_") else "the shop"
        metrics |= _expand(name, metric["type"], frozenset(metric["labels"]), source)
    for name, text, added in list_recording_rules():
        query = parse_query(text)
        sources = {metrics[each].source for each in list_metric_names(query) if each in metrics}
        given = list_output_labels(query, {each: metric.labels for each, metric in metrics.items()})
        metrics[name] = Metric("gauge", frozenset(given) | added, min(sources - {"the shop"}, default=RECORDED))
    return metrics


def list_recording_rules() -> Iterator[tuple[str, str, set[str]]]:
    """Name, expression and added labels, those of a file after those that it may build on."""
    for path in sorted(RULES.glob("*.yaml")):
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                if "record" in rule:
                    yield rule["record"], rule["expr"], {*rule.get("labels", ())}


def _expand(name: str, kind: str, labels: frozenset[str], source: str) -> dict[str, Metric]:
    labels |= TARGET_LABELS
    match kind:
        case "histogram":
            counted = {f"{name}_{part}": Metric("counter", labels, source) for part in ("sum", "count")}
            return {f"{name}_bucket": Metric("counter", labels | {"le"}, source), **counted}
        case "counter":
            return {name: Metric("counter", labels, source)}
        case _:
            return {name: Metric("gauge", labels, source)}
