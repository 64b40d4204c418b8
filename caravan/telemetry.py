"""Trace context, metrics and logs: one place for every metric name and for the context that each log line and message
carries.

The trace context is a W3C `traceparent` in a context variable. It always exists, so that logs, events and problem
documents can name a trace;
OpenTelemetry spans are made only when a collector is configured.
"""

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import structlog
from opentelemetry import trace as otel
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from prometheus_client import Counter, Gauge, Histogram

from caravan.printable import escape_unprintable
from caravan.redaction import redact_value

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)

HTTP_DURATION = Histogram(
    "http_server_request_duration_seconds",
    "HTTP requests by route template",
    ["service", "method", "route", "status"],
    buckets=BUCKETS,
)
MESSAGES_HANDLED = Counter(
    "caravan_messages_handled_total",
    "Messages by what came of them: done, duplicate, retry, dead",
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
JOB_COUNT = Gauge("caravan_jobs", "Jobs in a queue by state", ["queue", "state"])
JOB_DURATION = Histogram(
    "caravan_job_duration_seconds", "One attempt of a job: done, failed, held", ["queue", "result"], buckets=BUCKETS
)
JOBS_LATE = Counter("caravan_jobs_late_total", "Scheduled jobs that ran more than a minute late", ["queue"])

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
actor: ContextVar[str | None] = ContextVar("actor", default=None)
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
service_name: ContextVar[str | None] = ContextVar("service_name", default=None)

_random = random.Random(os.urandom(16))
_tracer: otel.Tracer | None = None


def new_traceparent() -> str:
    return f"00-{_random.getrandbits(128) or 1:032x}-{_random.getrandbits(64) or 1:016x}-01"


def parse_traceparent(value: str | None) -> str | None:
    """The header if it is one this version of the W3C format allows, else None."""
    if value is None or len(value) != 55 or value[:3] != "00-" or value[35] != "-" or value[52] != "-":
        return None
    try:
        if int(value[3:35], 16) == 0 or int(value[36:52], 16) == 0:
            return None
        int(value[53:], 16)
    except ValueError:
        return None
    return value.lower()


def get_trace_id() -> str | None:
    current = traceparent.get()
    return current[3:35] if current else None


@contextmanager
def start_span(
    name: str, kind: SpanKind, *, parent: str | None = None, links: list[str] | None = None, **attributes: Any
) -> Iterator[None]:
    """Run a block in the trace of `parent` (default: the current one; a new trace without any). `links` are
    traceparents of the messages of a batch.
    """
    parent = parent or traceparent.get() or new_traceparent()
    if _tracer is None:
        token = traceparent.set(parent)
        try:
            yield
        finally:
            traceparent.reset(token)
        return
    context = set_span_in_context(NonRecordingSpan(_parse_span_context(parent)))
    with _tracer.start_as_current_span(
        name,
        context=context,
        kind=kind,
        attributes=attributes,
        links=[Link(_parse_span_context(link)) for link in links or ()],
    ) as current:
        span_context = current.get_span_context()
        token = traceparent.set(f"00-{span_context.trace_id:032x}-{span_context.span_id:016x}-01")
        try:
            yield
        finally:
            traceparent.reset(token)


def _parse_span_context(value: str) -> SpanContext:
    return SpanContext(int(value[3:35], 16), int(value[36:52], 16), is_remote=True, trace_flags=TraceFlags(1))


def export_spans(endpoint: str, service: str) -> None:
    """Send spans to an OpenTelemetry collector from now on."""
    global _tracer
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.namespace": "caravan"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")))
    otel.set_tracer_provider(provider)
    _tracer = otel.get_tracer("caravan")


def _redact_fields(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The last look at a line: fields by their names, and texts, among them those of exceptions."""
    return cast("dict[str, Any]", redact_value(fields))


def _add_context(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    current = traceparent.get()
    if current:
        fields["trace_id"], fields["span_id"] = current[3:35], current[36:52]
    for name, variable in (("service", service_name), ("actor", actor), ("request_id", request_id)):
        value = variable.get()
        if value:
            fields.setdefault(name, value)
    return fields


def _escape_fields(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    """Foreign text in a log for people must not speak to their terminal. Tracebacks keep their lines."""
    return {
        name: escape_unprintable(value, keep="\n" if name == "exception" else "") if isinstance(value, str) else value
        for name, value in fields.items()
    }


def configure_logs(level: str, log_format: str) -> None:
    """One line per event on stderr, JSON or text; the standard library's loggers go the same way."""
    processors: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_context,
        structlog.processors.format_exc_info,
        _redact_fields,
    ]
    if log_format != "json":
        processors.append(_escape_fields)
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[*processors, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=processors, processor=renderer))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for logger_name in (
        "alembic",
        "httpx",
        "httpx2",
        "httpcore",
        "httpcore2",
        "asyncio",
        "fontTools",
        "fpdf",
        "aiokafka",
        "aio_pika",
        "aiormq",
    ):
        logging.getLogger(logger_name).setLevel(max(logging.WARNING, root.level))


log = structlog.get_logger("caravan")
