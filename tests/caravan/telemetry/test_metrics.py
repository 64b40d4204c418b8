"""The kernel's metrics keep Prometheus' conventions for names, units and labels."""

import re

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from caravan.telemetry import metrics

DECLARED = [metric for metric in vars(metrics).values() if isinstance(metric, MetricWrapperBase)]
LABELS = {
    *("service", "channel", "result", "method", "route", "status", "task", "target", "operation", "queue", "state"),
    *("source", "subject", "cache", "tag", "database", "redis", "check", "version", "commit", "fault", "provider"),
}
"""None of them has a value for each order, user or request."""


def read_name(metric: MetricWrapperBase) -> str:
    (family,) = metric.describe()
    return family.name + ("_total" if isinstance(metric, Counter) else "")


def test_each_is_named_once_after_the_project_or_the_convention_of_http() -> None:
    names = [read_name(metric) for metric in DECLARED]
    assert len(set(names)) == len(names) > 20
    assert [name for name in names if not re.fullmatch(r"(caravan|http_server)_[a-z_]+", name)] == []


def test_times_are_in_seconds_and_gauges_and_histograms_never_end_like_a_counter() -> None:
    for metric in DECLARED:
        name = read_name(metric)
        if isinstance(metric, Gauge | Histogram):
            assert not name.endswith("_total"), name
        if re.search("duration|lag_|age", name) and isinstance(metric, Histogram):
            assert name.endswith("_seconds") or "message" in name, name


def test_no_label_has_a_value_of_its_own_for_each_order_or_user() -> None:
    assert {label for metric in DECLARED for label in metric._labelnames} <= LABELS


def test_buckets_rise_and_reach_beyond_every_deadline() -> None:
    for metric in DECLARED:
        if isinstance(metric, Histogram):
            bounds = metric._upper_bounds
            assert bounds == sorted(set(bounds)), read_name(metric)
    assert metrics.BUCKETS[0] <= 0.005
    assert metrics.BUCKETS[-1] >= 10


def test_a_counter_whose_values_are_known_begins_at_zero_with_each_of_them() -> None:
    metrics.start_at_zero(metrics.MESSAGES_HANDLED, ["begun"], ["one", "two"], ["done", "dead"])
    found = {
        tuple(sample.labels.values())
        for family in metrics.MESSAGES_HANDLED.collect()
        for sample in family.samples
        if sample.labels["service"] == "begun" and sample.name.endswith("_total") and sample.value == 0
    }
    assert found == {("begun", channel, result) for channel in ("one", "two") for result in ("done", "dead")}
