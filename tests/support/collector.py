"""Stands in for an OpenTelemetry collector: keeps what processes send it, as they sent it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.trace import SpanKind

from observability.rehearsal.post_server import PostServer
from tests.support.spans import Node, SpanGraph

_KINDS = {1: SpanKind.INTERNAL, 2: SpanKind.SERVER, 3: SpanKind.CLIENT, 4: SpanKind.PRODUCER, 5: SpanKind.CONSUMER}


@dataclass(slots=True)
class Collector:
    endpoint: str = ""
    bodies: dict[str, list[bytes]] = field(default_factory=dict)
    """By path."""

    def keep(self, path: str, body: bytes) -> int:
        self.bodies.setdefault(path, []).append(body)
        return 200

    def build_graph(self) -> SpanGraph:
        return SpanGraph(
            [
                Node(
                    (int.from_bytes(span.trace_id), int.from_bytes(span.span_id)),
                    span.name,
                    _read_attributes(resource.resource.attributes)["service.name"].removeprefix("caravan-"),
                    _KINDS[span.kind],
                    (int.from_bytes(span.trace_id), int.from_bytes(span.parent_span_id))
                    if span.parent_span_id
                    else None,
                    tuple((int.from_bytes(link.trace_id), int.from_bytes(link.span_id)) for link in span.links),
                )
                for body in self.bodies.get("/v1/traces", [])
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
        )

    def list_lines(self) -> list[dict[str, str]]:
        """The log lines' fields, with their text as `event`."""
        return [
            {**_read_attributes(record.attributes), "event": record.body.string_value}
            for body in self.bodies.get("/v1/logs", [])
            for resource in ExportLogsServiceRequest.FromString(body).resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]


def _read_attributes(attributes: "list[KeyValue]") -> dict[str, str]:
    return {attribute.key: _read_value(attribute.value) for attribute in attributes}


def _read_value(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    return str(getattr(value, kind)) if kind else ""


@contextmanager
def run_collector() -> Iterator[Collector]:
    collector = Collector()
    with PostServer(collector.keep) as server:
        collector.endpoint = server.url
        yield collector
