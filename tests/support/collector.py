"""Stands in for an OpenTelemetry collector: keeps what processes send it, as they sent it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
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

    def list_spans(self) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Each span with the attributes of its resource."""
        return [
            (_read_attributes(resource["resource"]), span)
            for body in self.bodies.get("/v1/traces", [])
            for resource in orjson.loads(body)["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def build_graph(self) -> SpanGraph:
        return SpanGraph(
            [
                Node(
                    f"{span['traceId']}-{span['spanId']}",
                    span["name"],
                    resource["service.name"].removeprefix("caravan-"),
                    _KINDS[span["kind"]],
                    f"{span['traceId']}-{span['parentSpanId']}" if "parentSpanId" in span else None,
                    tuple(f"{link['traceId']}-{link['spanId']}" for link in span.get("links", ())),
                    int(span["startTimeUnixNano"]) / 1e9,
                )
                for resource, span in self.list_spans()
            ]
        )

    def list_records(self) -> list[dict[str, Any]]:
        return [
            record
            for body in self.bodies.get("/v1/logs", [])
            for resource in orjson.loads(body)["resourceLogs"]
            for scope in resource["scopeLogs"]
            for record in scope["logRecords"]
        ]

    def list_lines(self) -> list[dict[str, str]]:
        """The log lines' fields, with their text as `event`."""
        return [{**_read_attributes(record), "event": record["body"]["stringValue"]} for record in self.list_records()]


def _read_attributes(holder: dict[str, Any]) -> dict[str, str]:
    return {each["key"]: str(next(iter(each["value"].values()))) for each in holder["attributes"]}


@contextmanager
def run_collector() -> Iterator[Collector]:
    collector = Collector()
    with PostServer(collector.keep) as server:
        collector.endpoint = server.url
        yield collector
