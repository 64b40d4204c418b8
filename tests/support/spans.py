"""Spans that a test collects, and what belongs together among them: `with collect_spans() as spans: ...`, or those that
a `Collector` was sent.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext, SpanKind

from caravan.telemetry.span_export import begin_export

SpanId = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Node:
    """A span and what it follows from: its parent and its links."""

    id: SpanId
    name: str
    service: str
    kind: SpanKind
    parent: SpanId | None
    links: tuple[SpanId, ...]

    @property
    def causes(self) -> tuple[SpanId, ...]:
        return (*self.links, *((self.parent,) if self.parent else ()))


class SpanGraph:
    def __init__(self, nodes: Sequence[Node]) -> None:
        self.by_id = {node.id: node for node in nodes}
        self._by_trace: dict[int, list[SpanId]] = defaultdict(list)
        self._followers: dict[SpanId, list[SpanId]] = defaultdict(list)
        for node in nodes:
            self._by_trace[node.id[0]].append(node.id)
            for cause in node.causes:
                self._followers[cause].append(node.id)

    def list_journey(self, trace_id: str) -> list[Node]:
        """The spans of a trace, and those of others that follow from them: by a link, or as their children."""
        waiting = list(self._by_trace[int(trace_id, 16)])
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
    """`all` is there once the block is left."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    all: Sequence[ReadableSpan] = ()

    def list_consumers(self) -> list[ReadableSpan]:
        """In the order in which they began."""
        consumers = (span for span in self.all if span.kind is SpanKind.CONSUMER)
        return sorted(consumers, key=lambda span: span.start_time or 0)

    def build_graph(self) -> SpanGraph:
        return SpanGraph([build_node(span) for span in self.all])


def build_node(span: ReadableSpan) -> Node:
    return Node(
        get_id(span.context),
        span.name,
        str(span.resource.attributes["service.name"]).removeprefix("caravan-"),
        span.kind,
        get_id(span.parent) if span.parent else None,
        tuple(get_id(link.context) for link in span.links),
    )


def get_id(context: SpanContext | None) -> SpanId:
    assert context is not None
    return context.trace_id, context.span_id


@contextmanager
def collect_spans() -> Iterator[Spans]:
    spans = Spans()
    end_export = begin_export(spans.exporter, "tests:1", "0")
    try:
        yield spans
    finally:
        end_export()
        spans.all = spans.exporter.get_finished_spans()
