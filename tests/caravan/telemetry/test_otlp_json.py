"""What we write is OTLP: the same request as the SDK's own messages, read back by their definitions."""

from base64 import b64encode
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import ParseDict  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanKind, Status, StatusCode

from caravan.telemetry.log_lines import Line
from caravan.telemetry.otlp_json import encode_attributes, encode_lines, encode_spans
from caravan.telemetry.recorded_span import RecordedSpan
from caravan.telemetry.traceparents import new_traceparent

PROCESS = {"service.name": "all", "service.version": "1.2.3"}
PARENT = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"


def parse(body: bytes, message: Any) -> Any:
    """Strictly: a field that the definitions don't have raises. They have ids in base64, OTLP's JSON in hex."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            name: b64encode(bytes.fromhex(each)).decode() if name.endswith(("traceId", "panId")) else convert(each)
            for name, each in value.items()
        }

    return ParseDict(convert(orjson.loads(body)), message)


def make_span(service: str = "orders", parent: str = PARENT, **values: Any) -> RecordedSpan:
    span = RecordedSpan(lambda _: None, service, "process things", SpanKind.CONSUMER, parent, (), {}, 5)
    for name, value in values.items():
        setattr(span, name, value)
    span.end(9)
    return span


def test_a_span_is_read_as_it_was_made() -> None:
    link = new_traceparent()
    span = make_span(
        links=[link],
        events=[("retried", 7, {"attempt": 2})],
        status=Status(StatusCode.ERROR, "why"),
        attributes={"order.id": "42"},
    )
    request = parse(encode_spans([span], PROCESS), ExportTraceServiceRequest())
    (resource,) = request.resource_spans
    assert {each.key: each.value.string_value for each in resource.resource.attributes} == {
        "service.name": "caravan-orders",
        "service.version": "1.2.3",
    }
    (read,) = resource.scope_spans[0].spans
    assert (read.trace_id.hex(), read.parent_span_id.hex()) == (PARENT[3:35], PARENT[36:52])
    assert (read.span_id.hex(), read.name, read.start_time_unix_nano, read.end_time_unix_nano) == (
        span.span_id,
        "process things",
        5,
        9,
    )
    assert read.kind == read.SPAN_KIND_CONSUMER
    assert (read.status.code, read.status.message) == (read.status.STATUS_CODE_ERROR, "why")
    assert [(each.trace_id.hex(), each.span_id.hex()) for each in read.links] == [(link[3:35], link[36:52])]
    assert [(each.key, each.value.string_value) for each in read.attributes] == [("order.id", "42")]
    (event,) = read.events
    assert (event.name, event.time_unix_nano, event.attributes[0].value.int_value) == ("retried", 7, 2)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(kind, f"SPAN_KIND_{kind.name}") for kind in SpanKind],
)
def test_each_kind_has_its_number(kind: SpanKind, name: str) -> None:
    request = parse(encode_spans([make_span(kind=kind)], {}), ExportTraceServiceRequest())
    (read,) = request.resource_spans[0].scope_spans[0].spans
    assert read.SpanKind.Name(read.kind) == name


def test_each_service_of_a_process_has_a_resource_of_its_own() -> None:
    request = parse(
        encode_spans([make_span("orders"), make_span(""), make_span("orders")], PROCESS), ExportTraceServiceRequest()
    )
    counts = {
        next(a.value.string_value for a in each.resource.attributes if a.key == "service.name"): len(
            each.scope_spans[0].spans
        )
        for each in request.resource_spans
    }
    assert counts == {"caravan-orders": 2, "caravan": 1}


def test_the_first_span_of_a_trace_has_no_parent_and_the_id_that_was_named_before() -> None:
    named = new_traceparent()
    request = parse(encode_spans([make_span(parent=named)], {}), ExportTraceServiceRequest())
    (read,) = request.resource_spans[0].scope_spans[0].spans
    assert (read.trace_id.hex(), read.parent_span_id) == (named[3:35], b"")


def test_a_line_is_read_as_it_was_written() -> None:
    lines = [Line(7, "warning", "no answer", PARENT, {"tries": 3}), Line(8, "info", "here", None, {})]
    request = parse(encode_lines(lines, PROCESS), ExportLogsServiceRequest())
    first, second = request.resource_logs[0].scope_logs[0].log_records
    assert (first.body.string_value, first.time_unix_nano, first.severity_text) == ("no answer", 7, "WARNING")
    assert first.severity_number == 13
    assert f"{first.trace_id.hex()}-{first.span_id.hex()}" == PARENT[3:52]
    assert [(each.key, each.value.int_value) for each in first.attributes] == [("tries", 3)]
    assert (second.trace_id, second.span_id) == (b"", b"")


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        ("text", "string_value", "text"),
        (True, "bool_value", True),
        (-3, "int_value", -3),
        (2**63 - 1, "int_value", 2**63 - 1),
        (2**63, "string_value", str(2**63)),
        (0.5, "double_value", 0.5),
        (float("nan"), "string_value", "nan"),
        (float("inf"), "string_value", "inf"),
        (None, "string_value", "None"),
    ],
)
def test_a_value_keeps_its_type_where_there_is_one(value: Any, kind: str, read: Any) -> None:
    request = parse(encode_lines([Line(1, "info", "x", None, {"a": value})], {}), ExportLogsServiceRequest())
    (attribute,) = request.resource_logs[0].scope_logs[0].log_records[0].attributes
    assert attribute.value.WhichOneof("value") == kind
    assert getattr(attribute.value, kind) == read


def test_a_list_is_one() -> None:
    assert encode_attributes({"a": ["x", 1]}) == [
        {"key": "a", "value": {"arrayValue": {"values": [{"stringValue": "x"}, {"intValue": 1}]}}}
    ]


def test_half_a_character_of_a_foreign_text_loses_no_batch() -> None:
    body = encode_lines([Line(1, "info", "\ud800", None, {}), Line(2, "info", "whole", None, {})], {})
    assert b"whole" in body


def test_a_relay_with_a_thousand_messages_has_a_bounded_number_of_links() -> None:
    span = make_span(links=[new_traceparent() for _ in range(1000)])
    request = parse(encode_spans([span], {}), ExportTraceServiceRequest())
    assert len(request.resource_spans[0].scope_spans[0].spans[0].links) == 512
