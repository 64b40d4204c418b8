"""Sends log lines to an OpenTelemetry collector, in a thread of its own with a bounded queue. What it can't take in
time is dropped, and stays on stderr.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExportResult
from opentelemetry.sdk._shared_internal import BatchProcessor

from caravan.telemetry.log_lines import Line, send_lines_to
from caravan.telemetry.otlp_json import encode_lines

_QUEUE_MAX = 8192
_BATCH_MAX = 2048
_DELAY_MS = 2000
"""Few large requests, as of spans; but whoever looks for a line looks soon."""
END_MS = 3000
"""So long a process that ends waits for its last lines, or spans, to be taken."""


def export_logs(endpoint: str, process: Mapping[str, Any]) -> Callable[[], None]:
    """Send log lines to the collector at an endpoint from now on, beside writing them. `process`: what the lines
    have in common. What is returned sends the rest, and ends it.
    """
    processor = BatchLogRecordProcessor(
        _JsonExporter(endpoint.rstrip("/") + "/v1/logs", process),
        schedule_delay_millis=_DELAY_MS,
        max_queue_size=_QUEUE_MAX,
        max_export_batch_size=_BATCH_MAX,
    )
    batches: BatchProcessor[Any] = processor._batch_processor

    def end_export() -> None:
        send_lines_to(None)
        batches.shutdown(timeout_millis=END_MS)

    send_lines_to(batches.emit)
    return end_export


class _JsonExporter(OTLPLogExporter):
    """The SDK's connection, headers, retries and deadline; the body is ours."""

    def __init__(self, url: str, process: Mapping[str, Any]) -> None:
        super().__init__(url, headers={"Content-Type": "application/json"})
        self._process = process

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        lines: Sequence[Line] = batch
        sent = self._client.export(encode_lines(lines, self._process))
        return LogRecordExportResult.SUCCESS if sent.success else LogRecordExportResult.FAILURE
