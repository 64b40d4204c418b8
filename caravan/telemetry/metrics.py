"""Every metric that the kernel keeps, by name; a service declares its own in its `metrics.py`, and nothing else
declares any.

A counter that has never counted is no series, and no alert sees its first rise: whoever knows the label values
beforehand begins them at 0 (`start_at_zero`).
"""

from collections.abc import Iterable
from itertools import product

from prometheus_client import Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

SUBSCRIPTION = ["service", "channel"]

HTTP_DURATION = Histogram(
    "http_server_request_duration_seconds",
    "HTTP requests by route template",
    ["service", "method", "route", "status"],
    buckets=BUCKETS,
)
MESSAGES_HANDLED = Counter(
    "caravan_messages_handled_total",
    "Messages by what came of them: done, duplicate, retry, dead, blocked",
    ["service", "channel", "result"],
)
HANDLER_DURATION = Histogram(
    "caravan_handler_duration_seconds",
    "One batch of messages, claim to commit",
    SUBSCRIPTION,
    buckets=BUCKETS,
)
BATCH_SIZE = Histogram(
    "caravan_batch_messages",
    "Messages handled in one unit of work",
    SUBSCRIPTION,
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)
INBOX_DUPLICATES = Counter("caravan_inbox_duplicates_total", "Messages that had been handled before", SUBSCRIPTION)
MESSAGES_REDELIVERED = Counter(
    "caravan_messages_redelivered_total", "Messages that came again: after a failure, or a reader's end", SUBSCRIPTION
)
DEAD_LETTERS = Counter("caravan_dead_letters_total", "Messages given up", ["channel", "service"])
DEAD_LETTERS_OPEN = Gauge("caravan_dead_letters_open", "Dead letters that wait for somebody", SUBSCRIPTION)
MESSAGES_PUBLISHED = Counter("caravan_messages_published_total", "Messages that the bus took", SUBSCRIPTION)
OUTBOX_PENDING = Gauge("caravan_outbox_pending", "Rows that the bus has not taken yet", ["service"])
OUTBOX_AGE = Gauge("caravan_outbox_oldest_age_seconds", "Age of the oldest row that the bus has not taken", ["service"])
OUTBOX_LAG = Histogram(
    "caravan_outbox_lag_seconds",
    "From the writing of a message, the last thing before its commit, until the bus took it",
    ["service"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0),
)
CONSUMER_LAG = Gauge("caravan_consumer_lag", "Messages waiting for a subscription", SUBSCRIPTION)
CONSUMER_LAG_SECONDS = Gauge(
    "caravan_consumer_lag_seconds",
    "For how long the oldest message has waited, as far as one can tell from what was handled last; 0 without any",
    SUBSCRIPTION,
)
QUEUE_CONSUMERS = Gauge(
    "caravan_queue_consumers",
    "Consumers that the broker knows of a queue; 0 means that nobody takes its messages",
    SUBSCRIPTION,
)
OUTBOX_REFUSED = Gauge(
    "caravan_outbox_refused", "Rows that the bus refused for good, set aside until somebody decides", ["service"]
)
TASK_FAILURES = Counter(
    "caravan_task_failures_total",
    "Times that something which runs as long as the process failed and started again",
    ["task"],
)
FAULT_ACTIVE = Gauge("caravan_fault_active", "1 while a fault flag is on", ["fault"])
STATEMENTS = Counter("caravan_database_statements_total", "SQL statements sent", ["service"])
POOL_CONNECTIONS = Gauge(
    "caravan_database_pool_connections", "Connections of a pool by what they do: used, idle", ["service", "state"]
)
POOL_LIMIT = Gauge("caravan_database_pool_limit", "Most connections that a pool may hold", ["service"])
POOL_WAIT = Histogram(
    "caravan_database_pool_wait_seconds",
    "Waiting for a connection, of those who found none free",
    ["service"],
    buckets=BUCKETS,
)
DATABASE_CONNECTIONS = Gauge(
    "caravan_database_connections",
    "Sessions of a service's role that Postgres knows: active, idle, idle in transaction",
    ["database", "state"],
)
DATABASE_CONNECTIONS_LIMIT = Gauge("caravan_database_connections_limit", "Postgres' max_connections", ["database"])
DATABASE_OLDEST_TRANSACTION = Gauge(
    "caravan_database_oldest_transaction_seconds",
    "Age of the oldest transaction of a service's role that has a snapshot",
    ["database"],
)
REDIS_MEMORY = Gauge("caravan_redis_memory_bytes", "Memory that a Redis uses: cache, jobs", ["redis"])
REDIS_MEMORY_LIMIT = Gauge("caravan_redis_memory_limit_bytes", "Memory that a Redis may use; 0 is all", ["redis"])
REDIS_EVICTED = Gauge("caravan_redis_evicted_keys", "Keys that a Redis has evicted since its start", ["redis"])
CHECK_UP = Gauge(
    "caravan_check_up",
    "1 while a service can use what it needs: each of its databases, kafka, rabbitmq, redis, jobs_redis, registry",
    ["service", "check"],
)
EVENT_LOOP_LAG = Histogram(
    "caravan_event_loop_lag_seconds",
    "How late a timer of the event loop fires",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
BUILD_INFO = Gauge("caravan_build_info", "1; which build this process runs", ["version", "commit"])
SPANS_DROPPED = Counter(
    "caravan_spans_dropped_total", "Spans that were not exported: the queue was full, or nobody took them"
)
PROVIDER_CALL_DURATION = Histogram(
    "caravan_provider_call_duration_seconds",
    "Calls of third parties: ok, refused (an answer, and it is no), failed (no answer), timeout",
    ["provider", "result"],
    buckets=BUCKETS,
)
CALL_DURATION = Histogram(
    "caravan_call_duration_seconds",
    "Calls of one service by another",
    ["service", "target", "operation", "result"],
    buckets=BUCKETS,
)
BREAKER_STATE = Gauge("caravan_breaker_state", "0 closed, 1 half-open, 2 open", ["service", "target"])
CALL_RETRIES = Counter("caravan_call_retries_total", "Calls tried again", ["service", "target"])
CACHE_REQUESTS = Counter(
    "caravan_cache_requests_total",
    "Reads of a cache: hit, stale (served while it is refreshed), miss, collapsed (another reader computed it), bypass "
    "(computed without Redis)",
    ["service", "result"],
)
CACHE_FILL_DURATION = Histogram(
    "caravan_cache_fill_seconds",
    "Computing an entry: stored, fenced (invalidated meanwhile), lost (took longer than its lease), too_large, failed, "
    "unavailable",
    ["service", "cache", "result"],
    buckets=BUCKETS,
)
CACHE_INVALIDATIONS = Counter("caravan_cache_invalidations_total", "Invalidations of tags, by kind of tag", ["tag"])
CACHE_AVAILABLE = Gauge("caravan_cache_available", "0 while this process can't use the Redis of the cache")
LIVE_STREAMS = Gauge("caravan_live_streams", "Live streams of a subject that this process serves", ["subject"])
LIVE_DELIVERIES = Counter("caravan_live_deliveries_total", "Changes handed to live streams", ["subject"])
LIVE_RESETS = Counter("caravan_live_resets_total", "Live streams that had to begin anew", ["subject"])
JOB_COUNT = Gauge("caravan_jobs", "Jobs in a queue by state", ["queue", "state"])
JOB_DURATION = Histogram(
    "caravan_job_duration_seconds",
    "One attempt of a job: done, failed, postponed",
    ["queue", "result"],
    buckets=BUCKETS,
)
JOBS_OLDEST_AGE = Gauge(
    "caravan_jobs_oldest_age_seconds", "Age of the oldest job that is due and that no worker has taken", ["queue"]
)
JOBS_LATE = Counter("caravan_jobs_late_total", "Scheduled jobs that ran more than a minute late", ["queue"])
ENDPOINT_EJECTIONS = Counter("caravan_endpoint_ejections_total", "Endpoints left out because they failed", ["target"])
REGISTRY_SNAPSHOTS = Counter(
    "caravan_registry_snapshots_total",
    "Routing snapshots by what came of them: applied, same, older, invalid",
    ["result"],
)
REGISTRY_SEQUENCE = Gauge("caravan_registry_sequence", "Sequence of the routing snapshot in force")
REGISTRY_REACHABLE = Gauge("caravan_registry_reachable", "1 while the source of snapshots can be read", ["source"])
REGISTRY_ENDPOINTS = Gauge("caravan_registry_endpoints", "Endpoints that requests go to", ["target"])


def start_at_zero(counter: Counter | Histogram, *label_values: Iterable[str]) -> None:
    """Make the series of all combinations of these values, one iterable for each label."""
    for values in product(*label_values):
        counter.labels(*values)
