"""Sends spans to an OpenTelemetry collector, from a thread of its own with a bounded queue: a collector that is
unavailable costs spans, which are counted, and nobody waits for it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._shared_internal import BatchProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from caravan.telemetry.log_export import END_MS, export_logs
from caravan.telemetry.metrics import SPANS_DROPPED
from caravan.telemetry.otlp_json import encode_spans
from caravan.telemetry.recorded_span import RecordedSpan
from caravan.telemetry.trace import send_spans_to

_QUEUE_MAX = 8192
_BATCH_MAX = 2048
_DELAY_MS = 5000
"""Few large requests."""
_POST_SECONDS = 5


def export_spans(endpoint: str, process: str, instance: str, version: str) -> Callable[[], None]:
    """Send spans, and the log lines of the process that belong to them, to the collector at an endpoint from now on.
    What is returned sends the rest of both, and ends it.
    """
    # With what OTEL_RESOURCE_ATTRIBUTES says of the process.
    shared = Resource.create({"service.namespace": "caravan", "service.name": process}).attributes
    end_lines = export_logs(endpoint, shared)
    url = endpoint.rstrip("/") + "/v1/traces"
    exporter = _JsonExporter(url, {**shared, "service.version": version, "service.instance.id": instance})
    processor = BatchSpanProcessor(
        exporter,
        max_queue_size=_QUEUE_MAX,
        schedule_delay_millis=_DELAY_MS,
        max_export_batch_size=_BATCH_MAX,
    )
    batches: BatchProcessor[Any] = processor._batch_processor

    def send(span: RecordedSpan) -> None:
        if len(batches._queue) >= _QUEUE_MAX:
            SPANS_DROPPED.inc()  # the oldest
        batches.emit(span)

    def end_export() -> None:
        send_spans_to(None)
        batches.shutdown(timeout_millis=END_MS)
        end_lines()

    send_spans_to(send)
    return end_export


class _JsonExporter(OTLPSpanExporter):
    """The SDK's connection, headers, retries and deadline; the body is ours. Counts what the collector did not take."""

    def __init__(self, url: str, process: Mapping[str, Any]) -> None:
        super().__init__(url, headers={"Content-Type": "application/json"}, timeout=_POST_SECONDS)
        self._process = process

    def export(self, spans: Sequence[Any]) -> SpanExportResult:
        sent = False
        try:
            sent = self._client.export(encode_spans(spans, self._process)).success
        finally:
            if not sent:
                SPANS_DROPPED.inc(len(spans))
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE
