"""Every metric, named like controller-runtime's; no label holds the name of an object."""

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

RECONCILES = Counter(
    "caravan_operator_reconcile_total",
    "Passes over a resource by what came of them: success, error, requeue, waiting",
    ["kind", "result"],
)
RECONCILE_ERRORS = Counter("caravan_operator_reconcile_errors_total", "Passes over a resource that failed", ["kind"])
RECONCILE_SECONDS = Histogram(
    "caravan_operator_reconcile_time_seconds",
    "One batch of resources, read to written",
    ["connection_kind"],
    buckets=_BUCKETS,
)
BATCH_SIZE = Histogram(
    "caravan_operator_batch_resources",
    "Resources in one batch",
    ["connection_kind"],
    buckets=(1, 5, 20, 50, 100, 200, 500),
)

QUEUE_DEPTH = Gauge("caravan_operator_workqueue_depth", "Resources waiting for a pass", ["priority"])
QUEUE_ADDS = Counter("caravan_operator_workqueue_adds_total", "Resources put into the queue", ["priority"])
QUEUE_SECONDS = Histogram(
    "caravan_operator_workqueue_queue_duration_seconds",
    "From due to the start of its pass",
    ["priority"],
    buckets=_BUCKETS,
)
QUEUE_RETRIES = Counter("caravan_operator_workqueue_retries_total", "Passes asked for again after a failure")
QUEUE_OLDEST = Gauge(
    "caravan_operator_workqueue_longest_waiting_seconds", "Age of the longest waiting resource that is due"
)
UNFINISHED_SECONDS = Gauge(
    "caravan_operator_workqueue_unfinished_work_seconds", "Age of the oldest batch that runs now"
)

EXTERNAL_CALL_SECONDS = Histogram(
    "caravan_operator_external_call_seconds", "Calls to brokers", ["broker", "operation"], buckets=_BUCKETS
)
API_CALLS = Counter(
    "caravan_operator_kubernetes_requests_total", "Calls of the Kubernetes API", ["verb", "resource", "code"]
)
EXTERNAL_WRITES = Counter(
    "caravan_operator_external_writes_total", "Actions that a broker has taken", ["kind", "action"]
)
DRIFTS = Counter(
    "caravan_operator_drift_total", "Differences that somebody else made: corrected, reported", ["kind", "outcome"]
)
RESOURCES = Gauge(
    "caravan_operator_resources", "Resources by whether they are Ready: true, false, unknown", ["kind", "ready"]
)
UNSYNCED_OBJECTS = Gauge(
    "caravan_operator_unsynced_objects", "Objects that existed at the start and that no watch has delivered yet"
)
LEADER = Gauge("caravan_operator_leader", "1 while this process holds the Lease")
OPEN_CIRCUITS = Gauge(
    "caravan_operator_circuit_open", "Connections whose calls are blocked by an open circuit", ["connection_kind"]
)
SNAPSHOTS = Counter(
    "caravan_operator_snapshots_total", "Compiled routing snapshots: written, unchanged, too_large", ["result"]
)
SNAPSHOT_DELAY_SECONDS = Histogram(
    "caravan_operator_snapshot_delay_seconds",
    "From the first change that a snapshot holds to its publication",
    buckets=_BUCKETS,
)
SNAPSHOT_POLLS = Gauge("caravan_operator_snapshot_polls", "Gateways and services that wait for the next snapshot")
WATCH_EVENTS = Counter("caravan_operator_watch_events_total", "Events that the watches have brought", ["kind"])


def initialize_counters(kinds: Iterable[str]) -> None:
    """With zeros: a series that begins with its first event has not risen by it, and no rule sees that."""
    for kind in kinds:
        RECONCILE_ERRORS.labels(kind)
        for outcome in ("corrected", "reported"):
            DRIFTS.labels(kind, outcome)
