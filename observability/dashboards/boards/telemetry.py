"""Whether what the other dashboards show can be believed: targets, spans, logs, rules."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import WINDOW, or_none, select, sum_rate

NOW = (
    Panel(
        "stat",
        "Targets down",
        "Processes that Prometheus should ask and that do not answer: their lines end.",
        "none",
        (Query("count(up == 0) or vector(0)", "down"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Series",
        "Series that Prometheus holds in memory. A jump is a label with too many values.",
        "short",
        (Query("sum(prometheus_tsdb_head_series)", "series"),),
        width=6,
        height=4,
        thresholds=(Threshold(500_000, "yellow"), Threshold(2_000_000, "red")),
    ),
    Panel(
        "stat",
        "Spans dropped by the shop",
        "Spans per second that a process could not hand to the collector. Traces have holes while it is above 0.",
        "ops",
        (Query(sum_rate("caravan_spans_dropped_total"), "dropped"),),
        width=6,
        height=4,
        thresholds=(Threshold(0.01, "red"),),
    ),
    Panel(
        "stat",
        "Faults switched on",
        "Fault flags that somebody has switched on to rehearse an alert. 0 outside of a rehearsal.",
        "none",
        (Query(f"count({select('caravan_fault_active')} == 1) or vector(0)", "on"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "yellow"),),
    ),
)

PROMETHEUS = (
    Panel(
        "lines",
        "Targets up by job",
        "Share of each job's targets that answer.",
        "percentunit",
        (Query("avg by (job) (up)", "{{job}}"),),
        maximum=1,
    ),
    Panel(
        "lines",
        "Duration of a scrape",
        "Longest time that a target of a job took to answer. Near the interval, points go missing.",
        "s",
        (Query("max by (job) (scrape_duration_seconds)", "{{job}}"),),
        thresholds=(Threshold(5, "yellow"), Threshold(10, "red")),
    ),
    Panel(
        "lines",
        "Samples by job",
        "Samples that one scrape of all targets of a job brings. It grows with replicas, not with traffic.",
        "short",
        (Query("sum by (job) (scrape_samples_scraped)", "{{job}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Series in memory",
        "Series that Prometheus holds in memory: flat in health, whatever the traffic.",
        "short",
        (Query("sum(prometheus_tsdb_head_series)", "series"),),
    ),
    Panel(
        "lines",
        "Failures of rules and notifications",
        "Rules per second that could not be evaluated, and alerts that did not reach the Alertmanager. Any of them "
        "makes the alerting blind.",
        "ops",
        (
            Query(f"sum(rate(prometheus_rule_evaluation_failures_total[{WINDOW}])) or vector(0)", "rules"),
            Query(f"sum(rate(prometheus_notifications_dropped_total[{WINDOW}])) or vector(0)", "notifications"),
        ),
        thresholds=(Threshold(0.001, "red"),),
    ),
    Panel(
        "states",
        "Alerts",
        "Alerts that are pending (yellow) or firing (red) at each time.",
        "none",
        (
            Query(
                or_none(
                    'max by (alertname) (ALERTS{alertstate="pending", severity!="none"}'
                    ' or 2 * ALERTS{alertstate="firing", severity!="none"})',
                    "alertname",
                ),
                "{{alertname}}",
            ),
        ),
        value_names={0: ("none", "green"), 1: ("pending", "yellow"), 2: ("firing", "red")},
    ),
)


def count_at_collector(name: str, by: str = "") -> str:
    """Its counters end in `_total` or not, by how its own metrics are configured."""
    return f"{sum_rate(f'otelcol_{name}_total', by)} or {sum_rate(f'otelcol_{name}', by)}"


def accepted_and_refused(signal: str) -> tuple[Query, ...]:
    return (
        Query(count_at_collector(f"receiver_accepted_{signal}"), "accepted"),
        Query(count_at_collector(f"receiver_refused_{signal}"), "refused"),
    )


PIPELINE = (
    Panel(
        "lines",
        "Spans at the collector",
        "Spans per second that the collector took, and those that it refused for want of memory.",
        "ops",
        accepted_and_refused("spans"),
    ),
    Panel(
        "lines",
        "Log lines at the collector",
        "Lines per second that the collector took, and those that it refused for want of memory.",
        "ops",
        accepted_and_refused("log_records"),
    ),
    Panel(
        "lines",
        "Queues of the exporters",
        "How full each queue of the collector is. When it is full, spans or lines are lost.",
        "percentunit",
        (
            Query(
                "max by (exporter) (otelcol_exporter_queue_size) / max by (exporter) (otelcol_exporter_queue_capacity)",
                "{{exporter}}",
            ),
        ),
        thresholds=(Threshold(0.5, "yellow"), Threshold(0.9, "red")),
        maximum=1,
    ),
    Panel(
        "lines",
        "Lost by the exporters",
        "Spans and lines per second that the collector could not hand on.",
        "ops",
        (
            Query(count_at_collector("exporter_send_failed_spans", "exporter"), "spans: {{exporter}}"),
            Query(count_at_collector("exporter_send_failed_log_records", "exporter"), "lines: {{exporter}}"),
        ),
        thresholds=(Threshold(0.01, "red"),),
    ),
    Panel(
        "lines",
        "Lines at Loki",
        "Lines per second that Loki took.",
        "ops",
        (Query(sum_rate("loki_distributor_lines_received_total"), "taken"),),
    ),
    Panel(
        "lines",
        "Lines that Loki discarded",
        "Lines per second that Loki refused, by why: too old, too long, or more than its limits allow.",
        "ops",
        (Query(or_none(sum_rate("loki_discarded_samples_total", "reason"), "reason"), "{{reason}}"),),
        thresholds=(Threshold(0.01, "red"),),
    ),
)

BOARDS = (
    Board(
        "telemetry",
        "Telemetry health",
        "Whether metrics, traces and logs arrive: look here when another dashboard is empty or an alert surprises.",
        (
            Row("Can the other dashboards be believed?", NOW),
            Row("Does Prometheus see everything?", PROMETHEUS),
            Row("Do traces and logs arrive?", PIPELINE),
        ),
    ),
)
