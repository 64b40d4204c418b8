"""Spans are told apart by their service, and those that nobody took are counted."""

import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from caravan import telemetry
from caravan.telemetry.metrics import SPANS_DROPPED
from caravan.telemetry.otlp_json import encode_spans
from caravan.telemetry.span_export import export_spans
from observability.rehearsal.post_server import PostServer
from tests.support.collector import Collector, run_collector
from tests.support.spans import collect_spans


def make_span(service: str, parent: str | None = None, links: Sequence[str] = ()) -> None:
    token = telemetry.service_name.set(service)
    with telemetry.start_span("process things", SpanKind.CONSUMER, parent=parent, links=links):
        pass
    telemetry.service_name.reset(token)


@pytest.fixture
def collector() -> Iterator[Collector]:
    with run_collector() as collector:
        yield collector


def test_each_service_of_a_process_has_a_name_of_its_own_in_a_trace(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=shop-0")
    parent = telemetry.new_traceparent()
    end_export = export_spans(collector.endpoint, "all", "host:1", "1.2.3")
    make_span("orders", parent)
    make_span("payments", parent)
    end_export()
    made = collector.list_spans()
    assert [resource["service.name"] for resource, _ in made] == ["caravan-orders", "caravan-payments"]
    assert {span["traceId"] for _, span in made} == {parent[3:35]}
    assert {(resource["service.version"], resource["k8s.pod.name"]) for resource, _ in made} == {("1.2.3", "shop-0")}


def test_what_a_foreign_sender_writes_instead_of_a_trace_ends_nothing() -> None:
    good = telemetry.new_traceparent()
    with collect_spans() as spans:
        make_span("orders", "00-not-a-trace", ["x", good, "", cast("Any", 7)])
    assert spans.all[0].links == [good]


def test_a_request_says_what_it_is_and_who_may_send_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's exporter reads headers, certificates and compression from the variables that OpenTelemetry names."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20secret")
    seen: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.headers["content-type"], self.headers["authorization"]))
            self.send_response(503 if len(seen) == 1 else 200)
            self.send_header("retry-after", "0")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    before = SPANS_DROPPED._value.get()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        end_export = export_spans(f"http://127.0.0.1:{server.server_port}", "all", "host:1", "1")
        make_span("orders")
        end_export()
        server.shutdown()
    assert seen[0] == ("application/json", "Bearer secret")
    assert SPANS_DROPPED._value.get() == before, "what a busy collector refused is sent again"


def test_spans_that_the_collector_did_not_take_are_counted() -> None:
    before = SPANS_DROPPED._value.get()
    with PostServer(lambda _path, _body: 400) as server:
        end_export = export_spans(server.url, "all", "host:1", "1.2.3")
        make_span("orders")
        end_export()
    assert SPANS_DROPPED._value.get() == before + 1


def test_the_first_span_of_a_trace_has_no_parent_and_the_id_that_was_named_before() -> None:
    named, recorded = telemetry.new_traceparent(), f"00-{'a' * 32}-{'b' * 16}-01"
    with collect_spans() as spans:
        make_span("orders", named)
        make_span("orders", recorded)
    first, later = spans.all
    assert (first.trace_id, first.parent_id) == (named[3:35], None)
    assert later.parent_id == "b" * 16


def test_an_error_is_told_without_its_secret() -> None:
    with (
        collect_spans() as spans,
        pytest.raises(ValueError, match="canary"),
        telemetry.start_span("work", SpanKind.INTERNAL),
    ):
        raise ValueError("refused with password=canary")
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "ValueError"
    assert "canary" not in str(encode_spans([span], {}))


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
    assert carried == span.traceparent
