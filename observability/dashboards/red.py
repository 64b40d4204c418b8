"""Rate, errors and duration, once for all services: of requests, of messages, and of calls between services."""

from observability.dashboards.model import Panel, Query, Threshold
from observability.dashboards.queries import SERVICE, quantile, share, sum_rate

REQUESTS = "http_server_request_duration_seconds"
FAILED = f'{SERVICE}, status=~"5.."'
HANDLED = "caravan_messages_handled_total"
CALLS = "caravan_call_duration_seconds"

ERROR_THRESHOLDS = (Threshold(0.001, "yellow"), Threshold(0.01, "red"))
SECONDS_THRESHOLDS = (Threshold(0.25, "yellow"), Threshold(1, "red"))


def show_requests(by: str) -> tuple[Panel, Panel, Panel]:
    legend = f"{{{{{by}}}}}"
    failed = share(sum_rate(f"{REQUESTS}_count", by, FAILED), sum_rate(f"{REQUESTS}_count", by, SERVICE))
    return (
        Panel(
            "lines",
            f"Requests by {by}",
            "HTTP requests answered per second, whatever the answer was.",
            "reqps",
            (Query(sum_rate(f"{REQUESTS}_count", by, SERVICE), legend),),
            stacked=True,
            link=(
                "Requests of this service",
                "/d/caravan-services?var-service=${__field.labels.service}&${__url_time_range}",
            )
            if by == "service"
            else None,
        ),
        Panel(
            "lines",
            f"Failed requests by {by}",
            "Share of requests answered with 5xx: the shop's fault, not the client's. At 0.1 % the SLO's budget is "
            "spent as planned.",
            "percentunit",
            (Query(failed, legend),),
            thresholds=ERROR_THRESHOLDS,
        ),
        Panel(
            "lines",
            f"Duration by {by} (p95)",
            "95 of 100 requests took at most this long. A point leads to the trace of a request as slow as that.",
            "s",
            (Query(quantile(0.95, REQUESTS, by, SERVICE), legend, exemplars=True),),
            thresholds=SECONDS_THRESHOLDS,
        ),
    )


def show_messages(by: str) -> tuple[Panel, Panel, Panel]:
    legend = f"{{{{{by}}}}}"
    handled = sum_rate(HANDLED, by, SERVICE)
    failed = sum_rate(HANDLED, by, f'{SERVICE}, result=~"retry|dead|blocked"')
    return (
        Panel(
            "lines",
            f"Messages handled by {by}",
            "Messages per second that consumers took, whatever came of them.",
            "mps",
            (Query(handled, legend),),
            stacked=True,
        ),
        Panel(
            "lines",
            f"Messages not done by {by}",
            "Share of messages that were retried, given up, or waited behind another of their key.",
            "percentunit",
            (Query(share(failed, handled), legend),),
            thresholds=(Threshold(0.05, "yellow"), Threshold(0.2, "red")),
        ),
        Panel(
            "lines",
            f"Handling by {by} (p95)",
            "Time from claiming a batch of messages to its commit, for 95 of 100 batches. A point leads to the trace "
            "of a message in such a batch.",
            "s",
            (Query(quantile(0.95, "caravan_handler_duration_seconds", by, SERVICE), legend, exemplars=True),),
            thresholds=SECONDS_THRESHOLDS,
        ),
    )


def show_calls() -> tuple[Panel, Panel, Panel]:
    legend = "{{service}} → {{target}}"
    calls = sum_rate(f"{CALLS}_count", "service, target", SERVICE)
    failed = sum_rate(f"{CALLS}_count", "service, target", f'{SERVICE}, result!="ok"')
    return (
        Panel(
            "lines",
            "Calls between services",
            "Calls of one service by another per second, in one process and over HTTP alike.",
            "reqps",
            (Query(calls, legend),),
            stacked=True,
        ),
        Panel(
            "lines",
            "Failed calls",
            "Share of calls that did not bring an answer: refused by a breaker, out of time, or failed.",
            "percentunit",
            (Query(share(failed, calls), legend),),
            thresholds=(Threshold(0.01, "yellow"), Threshold(0.05, "red")),
        ),
        Panel(
            "lines",
            "Duration of calls (p95)",
            "95 of 100 calls took at most this long, retries included.",
            "s",
            (Query(quantile(0.95, CALLS, "service, target", SERVICE), legend, exemplars=True),),
            thresholds=SECONDS_THRESHOLDS,
        ),
    )
