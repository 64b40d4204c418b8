"""Logs and trace context. The kernel's metrics are in `caravan/telemetry/metrics.py`."""

from caravan.telemetry.logs import configure_logs, log
from caravan.telemetry.trace import (
    actor,
    consumer_attributes,
    export_spans,
    get_trace_id,
    new_traceparent,
    parse_trace_id,
    parse_traceparent,
    request_id,
    service_name,
    start_span,
    traceparent,
)

__all__ = [
    "actor",
    "configure_logs",
    "consumer_attributes",
    "export_spans",
    "get_trace_id",
    "log",
    "new_traceparent",
    "parse_trace_id",
    "parse_traceparent",
    "request_id",
    "service_name",
    "start_span",
    "traceparent",
]
