"""Every metric that the kernel keeps, by name; a service declares its own beside its code. Whoever measures imports
them from here."""

from prometheus_client import Counter, Gauge, Histogram

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

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
    ["service", "channel"],
    buckets=BUCKETS,
)
BATCH_SIZE = Histogram(
    "caravan_batch_messages",
    "Messages handled in one unit of work",
    ["service", "channel"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200),
)
INBOX_DUPLICATES = Counter(
    "caravan_inbox_duplicates_total", "Messages that had been handled before", ["service", "channel"]
)
DEAD_LETTERS = Counter("caravan_dead_letters_total", "Messages given up", ["channel", "service"])
MESSAGES_PUBLISHED = Counter("caravan_messages_published_total", "Messages that the bus took", ["service", "channel"])
OUTBOX_PENDING = Gauge("caravan_outbox_pending", "Rows that the bus has not taken yet", ["service"])
OUTBOX_AGE = Gauge("caravan_outbox_oldest_age_seconds", "Age of the oldest row that the bus has not taken", ["service"])
OUTBOX_LAG = Histogram(
    "caravan_outbox_lag_seconds",
    "From the writing of a message, the last thing before its commit, until the bus took it",
    ["service"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0),
)
CONSUMER_LAG = Gauge("caravan_consumer_lag", "Messages waiting for a subscription", ["service", "channel"])
QUEUE_CONSUMERS = Gauge(
    "caravan_queue_consumers",
    "Consumers that the broker knows of a queue; 0 means that nobody takes its messages",
    ["service", "channel"],
)
OUTBOX_REFUSED = Gauge(
    "caravan_outbox_refused", "Rows that the bus refused for good, set aside until somebody decides", ["service"]
)
TASK_FAILURES = Counter(
    "caravan_task_failures_total",
    "Times that something which runs as long as the process failed and started again",
    ["task"],
)
STATEMENTS = Counter("caravan_database_statements_total", "SQL statements sent", ["service"])
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
