"""Sends spans to an OpenTelemetry collector, from a thread of its own with a bounded queue: a collector that is
unavailable costs spans, which are counted, and nobody waits for it.

Each service has a tracer provider, so that a process with several tells them apart; they share one queue.
"""

from collections.abc import Callable, Sequence

from opentelemetry import trace as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

from caravan.telemetry.log_export import export_logs
from caravan.telemetry.metrics import SPANS_DROPPED
from caravan.telemetry.trace import root_trace_id, use_tracers

_QUEUE_MAX = 8192
_BATCH_MAX = 2048
_DELAY_MS = 5000
"""Few large requests: each costs about as much as a hundred spans."""
_LIMITS = SpanLimits(max_links=512)
"""A relay's batch has up to 500 messages; the SDK's own limit is 128."""
_END_MS = 3000
"""So long a process that ends waits for its last spans to be taken."""


class _TraceIds(RandomIdGenerator):
    """The first span of a trace takes the id that logs and answers have named already."""

    def generate_trace_id(self) -> int:
        return root_trace_id.get() or super().generate_trace_id()


class _CountingExporter(SpanExporter):
    """Counts what the collector did not take."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            if result is not SpanExportResult.SUCCESS:
                SPANS_DROPPED.inc(len(spans))
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _CountingProcessor(BatchSpanProcessor):
    """Counts what finds the queue full: the oldest is dropped for it."""

    def on_end(self, span: ReadableSpan) -> None:
        processor = self._batch_processor
        if len(processor._queue) >= processor._max_queue_size:
            SPANS_DROPPED.inc()
        super().on_end(span)


def export_spans(endpoint: str, process: str, instance: str, version: str) -> Callable[[], None]:
    """Send spans, and the log lines of the process that belong to them, to the collector at an endpoint from now on.
    What is returned sends the rest of the spans, and ends them.
    """
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    export_logs(endpoint, process)
    return begin_export(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=5), instance, version)


def begin_export(exporter: SpanExporter, instance: str, version: str) -> Callable[[], None]:
    processor = _CountingProcessor(
        _CountingExporter(exporter),
        max_queue_size=_QUEUE_MAX,
        schedule_delay_millis=_DELAY_MS,
        max_export_batch_size=_BATCH_MAX,
    )
    tracers: dict[str, otel.Tracer] = {}

    def get_tracer(service: str) -> otel.Tracer:
        tracer = tracers.get(service)
        if tracer is None:
            attributes = {
                "service.name": f"caravan-{service}" if service else "caravan",
                "service.namespace": "caravan",
                "service.version": version,
                "service.instance.id": instance,
            }
            provider = TracerProvider(
                resource=Resource.create(attributes),
                shutdown_on_exit=False,
                id_generator=_TraceIds(),
                span_limits=_LIMITS,
            )
            provider.add_span_processor(processor)
            tracer = tracers[service] = provider.get_tracer("caravan")
        return tracer

    use_tracers(get_tracer)

    def end_export() -> None:
        use_tracers(None)
        processor._batch_processor.shutdown(timeout_millis=_END_MS)

    return end_export
