"""Structured logs: each line carries the trace context of `caravan/telemetry/trace.py`, and no secret."""

import logging
import sys
from typing import Any, cast

import structlog

from caravan.printable import escape_unprintable
from caravan.redaction import redact_value
from caravan.telemetry.log_context import describe_context
from caravan.telemetry.log_lines import emit_line
from caravan.telemetry.repeat_filter import RepeatFilter
from caravan.telemetry.trace import actor, request_id, service_name, traceparent

log = structlog.get_logger("caravan")


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
    for name, value in describe_context().items():
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
        emit_line,
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
    logging.raiseExceptions = False  # a log that can't be written, because its stream is closed, stops no work
    handler = logging.StreamHandler()
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=processors, processor=renderer))
    handler.addFilter(RepeatFilter())
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
        "websockets",
        "aiokafka",
        "aio_pika",
        "aiormq",
    ):
        logging.getLogger(logger_name).setLevel(max(logging.WARNING, root.level))
