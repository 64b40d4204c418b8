"""The trace context as a W3C `traceparent` in a context variable, and OpenTelemetry spans.

The context always exists, so that logs, messages and problem documents can name a trace; spans are made only when a
collector is configured.
"""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from opentelemetry import trace as otel
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)
actor: ContextVar[str | None] = ContextVar("actor", default=None)
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
service_name: ContextVar[str | None] = ContextVar("service_name", default=None)
consumer_attributes: ContextVar[Mapping[str, str]] = ContextVar("consumer_attributes", default=MappingProxyType({}))
"""What each consumer's span says of where its messages come from."""

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


def parse_trace_id(value: str | None) -> str | None:
    """The trace that a traceparent names; None for none."""
    return value[3:35] if value else None


def get_trace_id() -> str | None:
    return parse_trace_id(traceparent.get())


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
    if kind is SpanKind.CONSUMER:
        attributes = {**consumer_attributes.get(), **attributes}
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
    global _tracer  # noqa: PLW0603 -- one per process, set once at its start
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service, "service.namespace": "caravan"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces")))
    otel.set_tracer_provider(provider)
    _tracer = otel.get_tracer("caravan")
