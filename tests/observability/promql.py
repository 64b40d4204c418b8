"""Reads metrics and labels out of PromQL, and lists those that somebody declares."""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FROM_OUTSIDE = re.compile(
    r"up|scrape_\w+|ALERTS|process_\w+|prometheus_\w+|alertmanager_\w+|otelcol_\w+|rabbitmq_\w+|kafka_\w+|kube_\w+"
    r"|kubelet_\w+|certmanager_\w+"
)
"""Prometheus, Alertmanager, the collector, RabbitMQ's own endpoint, kafka-exporter, kube-state-metrics, the kubelet and
cert-manager.
"""
_WORDS = {"by", "without", "on", "ignoring", "group_left", "group_right", "and", "or", "unless", "bool", "offset"}
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\s*(\{(?:[^{}\"']|\"[^\"]*\"|'[^']*')*\})?(\s*\()?")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")


def find_metrics(query: str) -> list[tuple[str, list[str]]]:
    """Each selector's metric and the labels that it compares."""
    bare = re.sub(r"\[[^\]]*\]|offset\s+\w+", "", query)
    if re.search(r"\blabel_(replace|join)\(", bare):
        bare = re.sub(r',\s*"[^"]*"', "", bare)
    found = []
    for name, labels, call in _SELECTOR.findall(_GROUPING.sub(" ", bare)):
        if not call and name not in _WORDS and not name.isdigit():
            found.append((name, find_labels(labels)))
    return found


def find_labels(selector: str) -> list[str]:
    return re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"[^\"]*\"", selector)


def list_known_metrics(rules: list[dict[str, Any]]) -> "KnownMetrics":
    declared = json.loads((ROOT / "docs/metrics.json").read_text())
    known: dict[str, set[str] | None] = {}
    for name, metric in declared.items():
        labels = {*metric["labels"], "instance", "job", "namespace", "pod"}
        known[name] = labels
        if metric["type"] == "histogram":
            known |= {f"{name}_bucket": labels | {"le"}, f"{name}_count": labels, f"{name}_sum": labels}
    known |= {rule["record"]: None for rule in rules if "record" in rule}
    return KnownMetrics(known)


class KnownMetrics(dict[str, set[str] | None]):
    """Labels by metric; None where they are not known, as of metrics from outside."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or FROM_OUTSIDE.fullmatch(str(name)) is not None

    def __missing__(self, name: str) -> None:
        return None
