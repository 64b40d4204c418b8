"""Spans around each batch and each call to a broker. They go to OTEL_EXPORTER_OTLP_ENDPOINT; without it there are
none.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

_tracer = trace.get_tracer("caravan-operator")


def configure_tracing() -> None:
    if os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        provider = TracerProvider(
            resource=Resource.create({"service.name": os.environ.get("OTEL_SERVICE_NAME", "caravan-operator")})
        )
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)


@contextmanager
def start_span(name: str, **attributes: str | int) -> Iterator[None]:
    with _tracer.start_as_current_span(name, attributes=attributes):
        yield


def get_trace_id() -> str | None:
    """The id of the current trace, for the logs; None without tracing."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None
