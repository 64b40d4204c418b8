"""Rate, errors and duration of every service, by the same panels, and what its processes run short of."""

from observability.dashboards.model import NAMESPACE, SERVICE, Board, Panel, Query, Row, Threshold
from observability.dashboards.queries import SERVICE as OF_SERVICE
from observability.dashboards.queries import WINDOW, or_none, quantile, select, share, sum_rate, take_max, take_sum
from observability.dashboards.red import (
    ERROR_THRESHOLDS,
    FAILED,
    REQUESTS,
    SECONDS_THRESHOLDS,
    show_calls,
    show_messages,
    show_requests,
)

ALL_REQUESTS = sum_rate(f"{REQUESTS}_count", scope=OF_SERVICE)
OF_THE_SHOP = "and on (instance) caravan_build_info"
OF_ROUTE = "service, method, route"

NOW = (
    Panel(
        "stat",
        "Requests per second",
        "HTTP requests that the chosen services answer. A request that comes through the gateway counts there and at "
        "the service that it goes to.",
        "reqps",
        (Query(ALL_REQUESTS, "requests"),),
        width=6,
        height=4,
        decimals=1,
    ),
    Panel(
        "stat",
        "Failed requests",
        "Share of requests answered with 5xx. It is 0 in health.",
        "percentunit",
        (Query(share(sum_rate(f"{REQUESTS}_count", scope=FAILED), ALL_REQUESTS), "failed"),),
        width=6,
        height=4,
        thresholds=ERROR_THRESHOLDS,
        decimals=2,
    ),
    Panel(
        "stat",
        "Duration (p95)",
        "95 of 100 requests took at most this long.",
        "s",
        (Query(quantile(0.95, REQUESTS, scope=OF_SERVICE), "p95"),),
        width=6,
        height=4,
        thresholds=SECONDS_THRESHOLDS,
    ),
    Panel(
        "stat",
        "Processes not ready",
        "Checks that a process says of itself at /readyz and that fail now. 0 in health.",
        "none",
        (Query(f"count({select('caravan_check_up', OF_SERVICE)} == 0) or vector(0)", "failing"),),
        width=6,
        height=4,
        thresholds=(Threshold(1, "red"),),
    ),
)

ROUTES = (
    Panel(
        "table",
        "Busiest routes",
        "The twenty route templates with the most requests now, per second. What no template matches is one route, "
        "“unmatched”.",
        "reqps",
        (Query(f"topk(20, {sum_rate(f'{REQUESTS}_count', OF_ROUTE, OF_SERVICE)} > 0)", ""),),
        width=12,
        height=10,
        decimals=2,
    ),
    Panel(
        "bars",
        "Slowest routes (p95)",
        "The ten route templates whose slowest 5 of 100 requests take longest. Routes without a request are left out.",
        "s",
        (
            Query(
                f"topk(10, {quantile(0.95, REQUESTS, OF_ROUTE, OF_SERVICE)}"
                f" and on ({OF_ROUTE}) {sum_rate(f'{REQUESTS}_count', OF_ROUTE, OF_SERVICE)} > 0)",
                "{{method}} {{route}} ({{service}})",
            ),
        ),
        width=12,
        height=10,
        thresholds=SECONDS_THRESHOLDS,
    ),
)

PROCESSES = (
    Panel(
        "lines",
        "Checks of readiness",
        "1 while a process says at /readyz that it reaches what it depends on, 0 while it doesn't. A line below 1 is a "
        "process that gets no requests.",
        "none",
        (Query(f"min by (service, check) ({select('caravan_check_up', OF_SERVICE)})", "{{service}}: {{check}}"),),
        thresholds=(Threshold(1, "green"),),
        maximum=1,
        width=6,
    ),
    Panel(
        "lines",
        "Event loop lag (p99)",
        "How late a timer fires. Everything in the process waits that long: it has too little CPU, or a function "
        "computes without giving way.",
        "s",
        (Query(quantile(0.99, "caravan_event_loop_lag_seconds", "instance"), "{{instance}}"),),
        thresholds=(Threshold(0.1, "yellow"), Threshold(0.25, "red")),
        width=6,
    ),
    Panel(
        "lines",
        "CPU",
        "Processors that each process keeps busy. One process can't use more than about one.",
        "short",
        (Query(f"rate({select('process_cpu_seconds_total')}[{WINDOW}]) {OF_THE_SHOP}", "{{instance}}"),),
        thresholds=(Threshold(0.9, "red"),),
        width=6,
    ),
    Panel(
        "lines",
        "Memory",
        "What each process holds in memory. A line that only rises is a leak.",
        "bytes",
        (Query(f"{select('process_resident_memory_bytes')} {OF_THE_SHOP}", "{{instance}}"),),
        width=6,
    ),
    Panel(
        "lines",
        "Database connections in use",
        "Share of its pool that a service uses. At 100 % the next statement waits.",
        "percentunit",
        (
            Query(
                take_sum("caravan_database_pool_connections", "service", f'{OF_SERVICE}, state="used"')
                + " / "
                + take_sum("caravan_database_pool_limit", "service", OF_SERVICE),
                "{{service}}",
            ),
        ),
        thresholds=(Threshold(0.8, "yellow"), Threshold(1, "red")),
        maximum=1,
    ),
    Panel(
        "lines",
        "Wait for a connection (p95)",
        "95 of 100 statements waited at most this long for a connection of the pool.",
        "s",
        (Query(quantile(0.95, "caravan_database_pool_wait_seconds", "service", OF_SERVICE), "{{service}}"),),
        thresholds=(Threshold(0.1, "yellow"), Threshold(0.5, "red")),
    ),
    Panel(
        "lines",
        "SQL statements",
        "Statements per second that a service sends to Postgres.",
        "ops",
        (Query(sum_rate("caravan_database_statements_total", "service", OF_SERVICE), "{{service}}"),),
        stacked=True,
    ),
)

NEIGHBOURS = (
    *show_calls(),
    Panel(
        "states",
        "Circuit breakers",
        "Closed: calls go through. Open: the called service failed so often that it is not asked for a while. "
        "Half-open: one call tries it.",
        "none",
        (Query(take_max("caravan_breaker_state", "service, target", OF_SERVICE), "{{service}} → {{target}}"),),
        value_names={0: ("closed", "green"), 1: ("half-open", "yellow"), 2: ("open", "red")},
        width=12,
    ),
    Panel(
        "lines",
        "Requests shed",
        "Requests per second that the gateway answers 429 because a service has more than it can work on. A peak is a "
        "burst; a line that stays needs more replicas.",
        "reqps",
        (Query(or_none(sum_rate("caravan_gateway_shed_total", "target"), "target"), "{{target}}"),),
        thresholds=(Threshold(0.1, "red"),),
        width=6,
    ),
    Panel(
        "lines",
        "Requests under way and waiting",
        "What the gateway has given to each service and what waits for its turn there. Requests wait when the service "
        "has all that it can work on.",
        "none",
        (
            Query(take_sum("caravan_gateway_requests_under_way", "target"), "{{target}}: under way"),
            Query(take_sum("caravan_gateway_requests_waiting", "target"), "{{target}}: waiting"),
        ),
        width=6,
    ),
    Panel(
        "lines",
        "Endpoints left out",
        "Endpoints per second that were left out because they failed.",
        "ops",
        (Query(or_none(sum_rate("caravan_endpoint_ejections_total", "target"), "target"), "{{target}}"),),
        thresholds=(Threshold(0.01, "red"),),
        width=6,
    ),
    Panel(
        "lines",
        "Calls tried again",
        "Retries per second: a few are weather, many are a called service in trouble.",
        "reqps",
        (
            Query(
                or_none(sum_rate("caravan_call_retries_total", "service, target", OF_SERVICE), "target"),
                "{{service}} → {{target}}",
            ),
        ),
        thresholds=(Threshold(1, "yellow"),),
        width=6,
    ),
)

LOGS = (
    Panel(
        "logs",
        "Warnings and errors",
        "What the chosen services log at warning or above, newest first. A line's trace id leads to its trace.",
        "short",
        (
            Query(
                '{service_namespace="caravan"} | service=~"$service" | severity_text=~"(?i)warn.*|error|critical"',
                "",
            ),
        ),
        width=24,
        height=10,
    ),
)

BOARDS = (
    Board(
        "services",
        "Service RED",
        "Rate, errors and duration of each service: look here first when an alert names a service.",
        (
            Row("Are the services answering?", NOW),
            Row("Which service is slow or fails?", show_requests("service")),
            Row("Which route?", ROUTES),
            Row("Do its messages get done?", show_messages("service")),
            Row("Is it the service itself, or one that it calls?", NEIGHBOURS),
            Row("What do its processes run short of?", PROCESSES),
            Row("What does it say?", LOGS),
        ),
        variables=(NAMESPACE, SERVICE),
    ),
)
