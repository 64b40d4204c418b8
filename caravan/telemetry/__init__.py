"""Logs and trace context. The kernel's metrics are in `caravan/telemetry/metrics.py`."""

from caravan.telemetry.log_context import HandledMessages, handled_messages, request_scope
from caravan.telemetry.log_lines import export_summary, is_exporting_logs
from caravan.telemetry.logs import configure_logs, log
from caravan.telemetry.provider_calls import ProviderCalls
from caravan.telemetry.trace import (
    actor,
    build_exemplar,
    choose_traceparent,
    choose_tracestate,
    consumer_attributes,
    find_maker,
    get_trace_id,
    is_recording,
    link_current_span,
    mark_result,
    remember_publisher,
    request_id,
    service_name,
    start_span,
    traceparent,
)
from caravan.telemetry.traceparents import find_origin, new_traceparent, parse_trace_id, parse_traceparent

__all__ = [
    "HandledMessages",
    "ProviderCalls",
    "actor",
    "build_exemplar",
    "choose_traceparent",
    "choose_tracestate",
    "configure_logs",
    "consumer_attributes",
    "export_summary",
    "find_maker",
    "find_origin",
    "get_trace_id",
    "handled_messages",
    "is_exporting_logs",
    "is_recording",
    "link_current_span",
    "log",
    "mark_result",
    "new_traceparent",
    "parse_trace_id",
    "parse_traceparent",
    "remember_publisher",
    "request_id",
    "request_scope",
    "service_name",
    "start_span",
    "traceparent",
]
