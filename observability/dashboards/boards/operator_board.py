"""The operator: its queue, its passes, and what it does on the brokers."""

from observability.dashboards.model import Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SHOP, quantile, share, sum_rate, take_max, take_sum

PASSES = "caravan_operator_reconcile_total"

NOW = (
    Panel(
        "stat",
        "Leaders",
        "Replicas that hold the Lease. 1 in health; at 0 nothing changes on the brokers.",
        "none",
        (Query(take_sum("caravan_operator_leader"), "leaders"),),
        width=6,
        height=4,
        thresholds=(Threshold(0, "red"), Threshold(1, "green"), Threshold(2, "red")),
    ),
    Panel(
        "stat",
        "Resources not ready",
        "Custom resources whose condition Ready is not true.",
        "none",
        (
            Query(
                f"sum({take_max('caravan_operator_resources', 'kind', f'''{SHOP}, ready!='true' ''')}) or vector(0)",
                "not ready",
            ),
        ),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
    Panel(
        "stat",
        "Longest waiting resource",
        "Age of the resource that is due for longest and has had no pass.",
        "s",
        (Query(take_max("caravan_operator_workqueue_longest_waiting_seconds"), "waiting"),),
        width=6,
        height=4,
        thresholds=(Threshold(30, "yellow"), Threshold(120, "red")),
    ),
    Panel(
        "stat",
        "Circuits open",
        "Connections to brokers whose calls are blocked because they failed again and again.",
        "none",
        (Query(f"sum({take_max('caravan_operator_circuit_open', 'connection_kind')})", "open"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
)

WORK = (
    Panel(
        "lines",
        "Passes by result",
        "Passes over resources per second: success, waiting for something, asked for again, or failed.",
        "ops",
        (Query(sum_rate(PASSES, "result"), "{{result}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Failed passes by kind",
        "Share of passes that failed. The status of the resource names the reason.",
        "percentunit",
        (
            Query(
                share(sum_rate(PASSES, "kind", f'{SHOP}, result="error"'), sum_rate(PASSES, "kind")),
                "{{kind}}",
            ),
        ),
        thresholds=(Threshold(0.05, "red"),),
    ),
    Panel(
        "lines",
        "Duration of a batch (p95)",
        "95 of 100 batches of resources took at most this long, read to written.",
        "s",
        (Query(quantile(0.95, "caravan_operator_reconcile_time_seconds", "connection_kind"), "{{connection_kind}}"),),
        thresholds=(Threshold(10, "yellow"),),
    ),
    Panel(
        "lines",
        "Queue by priority",
        "Resources that wait for a pass. The drift check queues behind what users change.",
        "short",
        (Query(take_sum("caravan_operator_workqueue_depth", "priority"), "{{priority}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Wait in the queue (p95)",
        "95 of 100 resources waited at most this long from due to the start of their pass.",
        "s",
        (Query(quantile(0.95, "caravan_operator_workqueue_queue_duration_seconds", "priority"), "{{priority}}"),),
    ),
    Panel(
        "lines",
        "Ready by kind",
        "Custom resources by kind that are as declared.",
        "none",
        (Query(take_max("caravan_operator_resources", "kind", f'{SHOP}, ready="true"'), "{{kind}}"),),
        stacked=True,
    ),
)

OUTSIDE = (
    Panel(
        "lines",
        "Calls of the brokers (p95)",
        "95 of 100 calls of a broker took at most this long.",
        "s",
        (
            Query(
                quantile(0.95, "caravan_operator_external_call_seconds", "broker, operation"),
                "{{broker}}: {{operation}}",
            ),
        ),
    ),
    Panel(
        "lines",
        "Changes on the brokers",
        "Actions per second that a broker has taken, by kind and action. In rest there is none.",
        "ops",
        (Query(sum_rate("caravan_operator_external_writes_total", "kind, action"), "{{kind}}: {{action}}"),),
    ),
    Panel(
        "lines",
        "Drift",
        "Differences per second that somebody else made, set back or reported. Again and again means two owners.",
        "ops",
        (Query(sum_rate("caravan_operator_drift_total", "kind, outcome"), "{{kind}}: {{outcome}}"),),
        thresholds=(Threshold(0.01, "yellow"),),
    ),
    Panel(
        "lines",
        "Calls of the Kubernetes API",
        "Requests per second by answer. 409 and 429 are weather, 5xx is a cluster in trouble.",
        "reqps",
        (Query(sum_rate("caravan_operator_kubernetes_requests_total", "code"), "{{code}}"),),
        stacked=True,
    ),
    Panel(
        "lines",
        "Routing snapshots",
        "Snapshots compiled per second: written, unchanged, or too large to be published.",
        "ops",
        (Query(sum_rate("caravan_operator_snapshots_total", "result"), "{{result}}"),),
    ),
    Panel(
        "lines",
        "From change to snapshot (p95)",
        "Time from the first change that a snapshot holds to its publication.",
        "s",
        (Query(quantile(0.95, "caravan_operator_snapshot_delay_seconds"), "p95"),),
        thresholds=(Threshold(5, "yellow"),),
    ),
)

BOARDS = (
    Board(
        "operator",
        "Operator",
        "Whether topics, queues and routing are as declared, and what the operator does about it.",
        (
            Row("Is everything as declared?", NOW),
            Row("Does it keep up?", WORK),
            Row("What does it do outside?", OUTSIDE),
        ),
    ),
)
