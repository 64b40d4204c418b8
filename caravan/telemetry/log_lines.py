"""Log lines on their way to a collector: what stderr shows, with the same things left out. `log_export.py` sends them,
in a thread of its own.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

_PLACED = frozenset({"event", "level", "timestamp", "trace_id", "span_id"})
"""Fields that a record has places of its own for."""


class Line(NamedTuple):
    """What a record is made of, in the thread that sends: the SDK's own cost three times as much, a dozen an order.
    `timestamp`: ns since 1970. `traceparent`: where it belongs, if anywhere.
    """

    timestamp: int
    level: str
    event: str
    traceparent: str | None
    attributes: dict[str, str | bool | int | float]


_send: Callable[[Line], None] | None = None


def send_lines_to(send: Callable[[Line], None] | None) -> None:
    """Hand over each line from now on, beside writing it; None: to nobody."""
    global _send  # noqa: PLW0603 -- one per process, set once at its start
    _send = send


def is_exporting_logs() -> bool:
    """Whether lines are sent: only then there is one for each batch of messages and each write over HTTP."""
    return _send is not None


def export_summary(event: str, service: str, traceparent: str | None, attributes: dict[str, str | int]) -> None:
    """A line for the collector alone, at whatever level the others are written: what was handled, by which its order is
    found. It costs a fifth of a line that is written, so nothing looks through it: its fields are ids and names.
    """
    if _send is not None:
        _send(Line(time.time_ns(), "info", event, traceparent, {"service": service, **attributes}))


def emit_line(_: Any, __: str, fields: dict[str, Any]) -> dict[str, Any]:
    """A processor of structlog: hands the line to the exporter, if there is one, and leaves it as it is."""
    if _send is not None and not _is_of_the_exporter(fields):
        _send(_read_line(fields))
    return fields


def _is_of_the_exporter(fields: Mapping[str, Any]) -> bool:
    """A line that says that lines can't be sent must not be one more to send."""
    record = fields.get("_record")
    return record is not None and record.name.startswith(("opentelemetry", "urllib3"))


def _read_line(fields: Mapping[str, Any]) -> Line:
    written = fields.get("timestamp")
    timestamp = int(datetime.fromisoformat(written).timestamp() * 1e6) * 1000 if isinstance(written, str) else 0
    return Line(
        timestamp or time.time_ns(),
        str(fields.get("level", "info")),
        str(fields.get("event", "")),
        f"00-{fields['trace_id']}-{fields['span_id']}-01" if "trace_id" in fields else None,
        {
            name: value if isinstance(value, str | bool | int | float) else str(value)
            for name, value in fields.items()
            if value is not None and name not in _PLACED and not name.startswith("_")
        },
    )
