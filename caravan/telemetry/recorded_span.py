"""A span while it runs, and once it has ended and waits to be sent. Nothing here needs what the SDK's own does in the
thread that serves (types checked, attributes counted, locks, a chain of processors), which takes four times as long;
`span_export.py` encodes it, in the thread that sends.
"""

import os
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import Attributes, AttributeValue

from caravan.redaction import redact_text

_MAX_REASON = 500
_UNSET = Status()
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_random = random.Random(os.urandom(16))


class RecordedSpan(Span):
    """`parent`: the traceparent of the span that it follows from, or of a trace in which nothing is recorded yet: then
    it is that trace's first. `links`: traceparents that were checked. Times are ns since 1970.
    """

    __slots__ = (
        "_send",
        "attributes",
        "end_time",
        "events",
        "kind",
        "links",
        "name",
        "parent_id",
        "service",
        "span_id",
        "start_time",
        "status",
        "trace_id",
    )

    def __init__(
        self,
        send: Callable[["RecordedSpan"], None],
        service: str,
        name: str,
        kind: SpanKind,
        parent: str,
        links: Iterable[str],
        attributes: Mapping[str, Any],
        started_at: int | None = None,
    ) -> None:
        self._send = send
        self.service = service
        self.name = name
        self.kind = kind
        self.trace_id = parent[3:35]
        self.parent_id = None if parent[54] in "02468ace" else parent[36:52]
        self.span_id = f"{_random.getrandbits(64) or 1:016x}"
        self.links = list(links)
        self.attributes = dict(attributes)
        self.events: list[tuple[str, int, Mapping[str, Any]]] = []
        self.status = _UNSET
        self.start_time = started_at or time.time_ns()
        self.end_time = 0

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    def end(self, end_time: int | None = None) -> None:
        if not self.end_time:
            self.end_time = end_time or time.time_ns()
            self._send(self)

    def get_span_context(self) -> SpanContext:
        return SpanContext(int(self.trace_id, 16), int(self.span_id, 16), is_remote=False, trace_flags=_SAMPLED)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        self.attributes[key] = value

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        self.attributes.update(attributes)

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        self.events.append((name, timestamp or time.time_ns(), attributes or {}))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        self.links.append(f"00-{context.trace_id:032x}-{context.span_id:016x}-01")

    def update_name(self, name: str) -> None:
        self.name = name

    def is_recording(self) -> bool:
        return not self.end_time

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Its class, and its text without secrets."""
        self.attributes["error.type"] = type(exception).__name__
        self.status = Status(StatusCode.ERROR, redact_text(str(exception))[:_MAX_REASON])
