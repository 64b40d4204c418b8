"""Log lines as OpenTelemetry records for a collector: what stderr shows, with the same things left out, and the ids of
the trace where a store of logs looks for them.
"""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import LogRecord, SeverityNumber

if TYPE_CHECKING:
    from opentelemetry._logs import Logger

_SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warning": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "critical": SeverityNumber.FATAL,
}
_PLACED = frozenset({"event", "level", "timestamp", "trace_id", "span_id"})
"""Fields that a record has places of its own for."""
_QUEUE_MAX = 8192
_BATCH_MAX = 2048
_DELAY_MS = 2000
"""Few large requests, as of spans; but whoever looks for a line looks soon."""
_logger: "Logger | None" = None


def export_logs(endpoint: str, service: str) -> None:
    """Send log lines to an OpenTelemetry collector from now on, beside writing them. What it can't take in time is
    dropped, and stays on stderr.
    """
    global _logger  # noqa: PLW0603 -- one per process, set once at its start
    from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.resources import Resource

    resource = Resource.create({"service.name": service, "service.namespace": "caravan"})
    provider = LoggerProvider(resource)
    provider.add_log_record_processor(
        BatchLogRecordProcessor(
            OTLPLogExporter(endpoint=endpoint.rstrip("/") + "/v1/logs"),
            schedule_delay_millis=_DELAY_MS,
            max_queue_size=_QUEUE_MAX,
            max_export_batch_size=_BATCH_MAX,
        )
    )
    _logger = provider.get_logger("caravan")


def is_exporting_logs() -> bool:
    """Whether lines are sent: only then there is one for each batch of messages and each write over HTTP."""
    return _logger is not None


def export_summary(event: str, service: str, traceparent: str | None, attributes: dict[str, str | int]) -> None:
    """A line for the collector alone, at whatever level the others are written: what was handled, by which its order is
    found. It costs a fifth of a line that is written, so nothing looks through it: its fields are ids and names.
    """
    if _logger is None:
        return
    _logger.emit(
        LogRecord(
            timestamp=time.time_ns(),
            severity_text="INFO",
            severity_number=SeverityNumber.INFO,
            body=event,
            trace_id=int(traceparent[3:35], 16) if traceparent else None,
            span_id=int(traceparent[36:52], 16) if traceparent else None,
            attributes={"service": service, **attributes},
        )
    )


def emit_line(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A processor of structlog: hands the line to the exporter, if there is one, and leaves it as it is."""
    if _logger is not None and not _is_of_the_exporter(fields):
        _logger.emit(build_record(fields))
    return fields


def _is_of_the_exporter(fields: Mapping[str, Any]) -> bool:
    """A line that says that lines can't be sent must not be one more to send."""
    record = fields.get("_record")
    return record is not None and record.name.startswith(("opentelemetry", "urllib3"))


def build_record(fields: Mapping[str, Any]) -> LogRecord:
    level = str(fields.get("level", "info"))
    written = fields.get("timestamp")
    traced = "trace_id" in fields
    return LogRecord(
        timestamp=int(datetime.fromisoformat(written).timestamp() * 1e6) * 1000 if isinstance(written, str) else None,
        severity_text=level.upper(),
        severity_number=_SEVERITIES.get(level, SeverityNumber.INFO),
        body=str(fields.get("event", "")),
        trace_id=int(fields["trace_id"], 16) if traced else None,
        span_id=int(fields["span_id"], 16) if traced else None,
        attributes={
            name: value if isinstance(value, str | bool | int | float) else str(value)
            for name, value in fields.items()
            if value is not None and name not in _PLACED and not name.startswith("_")
        },
    )
