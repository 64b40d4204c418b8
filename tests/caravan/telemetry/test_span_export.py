"""Spans are told apart by their service, and those that nobody took are counted."""

from collections.abc import Sequence
from typing import Any, cast

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from caravan import telemetry
from caravan.telemetry.metrics import SPANS_DROPPED
from caravan.telemetry.span_export import begin_export
from tests.support.spans import collect_spans, get_id


class Refusing(SpanExporter):
    def export(self, _: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.FAILURE


def make_span(service: str, parent: str | None = None, links: Sequence[str] = ()) -> None:
    token = telemetry.service_name.set(service)
    with telemetry.start_span("process things", SpanKind.CONSUMER, parent=parent, links=links):
        pass
    telemetry.service_name.reset(token)


def test_each_service_of_a_process_has_a_name_of_its_own_in_a_trace() -> None:
    exporter, parent = InMemorySpanExporter(), telemetry.new_traceparent()
    end_export = begin_export(exporter, "host:1", "1.2.3")
    make_span("orders", parent)
    make_span("payments", parent)
    end_export()
    spans = exporter.get_finished_spans()
    assert [span.resource.attributes["service.name"] for span in spans] == ["caravan-orders", "caravan-payments"]
    assert {f"{span.context.trace_id:032x}" for span in spans if span.context} == {parent[3:35]}
    assert {span.resource.attributes["service.version"] for span in spans} == {"1.2.3"}


def test_what_a_foreign_sender_writes_instead_of_a_trace_ends_nothing() -> None:
    exporter, good = InMemorySpanExporter(), telemetry.new_traceparent()
    end_export = begin_export(exporter, "host:1", "1.2.3")
    make_span("orders", "00-not-a-trace", ["x", good, "", cast("Any", {"no": "text"})])
    end_export()
    (span,) = exporter.get_finished_spans()
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [good[3:35]]


def test_spans_that_the_collector_did_not_take_are_counted() -> None:
    before = SPANS_DROPPED._value.get()
    end_export = begin_export(Refusing(), "host:1", "1.2.3")
    make_span("orders")
    end_export()
    assert SPANS_DROPPED._value.get() == before + 1


def test_the_first_span_of_a_trace_has_no_parent_and_the_id_that_was_named_before() -> None:
    named, recorded = telemetry.new_traceparent(), f"00-{'a' * 32}-{'b' * 16}-01"
    with collect_spans() as spans:
        make_span("orders", named)
        make_span("orders", recorded)
    first, later = spans.all
    assert first.parent is None
    assert f"{get_id(first.context)[0]:032x}" == named[3:35]
    assert later.parent is not None
    assert f"{later.parent.span_id:016x}" == "b" * 16


def test_an_error_is_told_without_its_secret() -> None:
    with (
        collect_spans() as spans,
        pytest.raises(ValueError, match="canary"),
        telemetry.start_span("work", SpanKind.INTERNAL),
    ):
        raise ValueError("refused with password=canary")
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ValueError"
    assert "canary" not in span.to_json()


@pytest.mark.parametrize(("does_work", "count"), [(False, 0), (True, 2)])
def test_a_quiet_span_is_sent_when_something_came_of_it(does_work: bool, count: int) -> None:
    with collect_spans() as spans, telemetry.start_span("run sweep", SpanKind.INTERNAL, is_quiet=True):
        if does_work:
            make_span("orders")
    assert len(spans.all) == count
    assert spans.build_graph().list_without_parent() == []


def test_a_quiet_span_from_which_a_message_comes_is_sent() -> None:
    with collect_spans() as spans, telemetry.start_span("run sweep", SpanKind.INTERNAL, is_quiet=True):
        carried = telemetry.choose_traceparent()
    (span,) = spans.all
    assert carried == "00-{:032x}-{:016x}-01".format(*get_id(span.context))
