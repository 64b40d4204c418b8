"""Spans that a test collects, and what belongs together among them: `with collect_spans() as spans: ...`, or those that
a `Collector` was sent.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.trace import SpanKind

from caravan.telemetry.recorded_span import RecordedSpan
from caravan.telemetry.trace import send_spans_to

SpanId = str
"""Of a trace and a span in it, as in the middle of a traceparent."""


@dataclass(frozen=True, slots=True)
class Node:
    """A span and what it follows from: its parent and its links."""

    id: SpanId
    name: str
    service: str
    kind: SpanKind
    parent: SpanId | None
    links: tuple[SpanId, ...]
    started_at: float
    """Unix time."""

    @property
    def causes(self) -> tuple[SpanId, ...]:
        return (*self.links, *((self.parent,) if self.parent else ()))


class SpanGraph:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.by_id = {node.id: node for node in nodes}
        self._by_trace: dict[str, list[SpanId]] = defaultdict(list)
        self._followers: dict[SpanId, list[SpanId]] = defaultdict(list)
        for node in nodes:
            self._by_trace[node.id[:32]].append(node.id)
            for cause in node.causes:
                self._followers[cause].append(node.id)

    def list_journey(self, trace_id: str) -> list[Node]:
        """The spans of a trace, and those of others that follow from them: by a link, or as their children."""
        waiting = list(self._by_trace[trace_id])
        found = set(waiting)
        while waiting:
            new = set(self._followers[waiting.pop()]) - found
            found |= new
            waiting += new
        return [self.by_id[identifier] for identifier in found]

    def list_orphans(self) -> list[Node]:
        """Consumers that follow from no span that is there."""
        return [
            node
            for node in self.by_id.values()
            if node.kind is SpanKind.CONSUMER and not any(cause in self.by_id for cause in node.causes)
        ]

    def list_without_parent(self) -> list[Node]:
        """Spans whose parent is nowhere."""
        return [node for node in self.by_id.values() if node.parent and node.parent not in self.by_id]


@dataclass(slots=True)
class Spans:
    all: list[RecordedSpan] = field(default_factory=list)
    """That have ended."""

    def list_consumers(self) -> list[RecordedSpan]:
        """In the order in which they began."""
        consumers = (span for span in self.all if span.kind is SpanKind.CONSUMER)
        return sorted(consumers, key=lambda span: span.start_time)

    def build_graph(self) -> SpanGraph:
        return SpanGraph([build_node(span) for span in self.all])


def build_node(span: RecordedSpan) -> Node:
    return Node(
        get_id(span),
        span.name,
        span.service,
        span.kind,
        f"{span.trace_id}-{span.parent_id}" if span.parent_id else None,
        tuple(link[3:52] for link in span.links),
        span.start_time / 1e9,
    )


def get_id(span: RecordedSpan) -> SpanId:
    return span.traceparent[3:52]


@contextmanager
def collect_spans() -> Iterator[Spans]:
    spans = Spans()
    send_spans_to(spans.all.append)
    try:
        yield spans
    finally:
        send_spans_to(None)
