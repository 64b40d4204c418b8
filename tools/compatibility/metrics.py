"""What breaks dashboards and alerts of others, between two lists of metrics."""

from typing import Any

from tools.compatibility.breaks import Break, make_break

RULES = {
    "metric-removed": "a metric is gone or has another name; alerts on it fall silent",
    "metric-type-changed": "its series have other names",
    "label-removed": "a label is gone or has another name",
    "label-added": "what was one series is several: an alert without `sum` is raised for each",
    "bucket-removed": "a bound of the histogram is gone, and objectives that count by it",
}


def find_breaks(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[Break]:
    found: list[Break] = []
    for name, metric in before.items():
        if name not in after:
            found.append(make_break(RULES, "metric-removed", name))
            continue
        now = after[name]
        if metric["type"] != now["type"]:
            found.append(make_break(RULES, "metric-type-changed", name))
        for rule, (one, other), key in (
            ("label-removed", (metric, now), "labels"),
            ("label-added", (now, metric), "labels"),
            ("bucket-removed", (metric, now), "buckets"),
        ):
            found += [
                make_break(RULES, rule, f"{name} {lost}") for lost in one.get(key, ()) if lost not in other.get(key, ())
            ]
    return found
