"""A request's span and line name its route and what it is about, and never its path."""

from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from caravan import telemetry
from caravan.telemetry.http_spans import describe_call, describe_request, read_location
from caravan.telemetry.otlp_json import encode_spans
from tests.support.spans import collect_spans

ORDER = "0192f0c1-7d3a-7000-8000-00000000000a"


@pytest.mark.parametrize(
    ("method", "route", "status", "name"),
    [
        ("GET", "/v1/orders/{order_id}", 200, "GET /v1/orders/{order_id}"),
        ("POST", None, 404, "POST"),
        ("_OTHER", None, 405, "HTTP"),
        ("POST", "/v1/orders", 503, "POST /v1/orders"),
    ],
)
def test_a_request_is_named_by_its_route(method: str, route: str | None, status: int, name: str) -> None:
    scope = {"path": f"/v1/orders/{ORDER}", "query_string": b"token=canary", "scheme": "https"}
    with collect_spans() as spans, telemetry.start_span(method, SpanKind.SERVER) as started:
        describe_request(started, method, route, status, scope)
    (span,) = spans.all
    attributes = span.attributes
    assert span.name == name
    assert attributes["http.request.method"] == method
    assert attributes["http.response.status_code"] == status
    assert attributes.get("http.route") == route
    assert attributes["order.id"] == ORDER
    assert (span.status.status_code is StatusCode.ERROR) == (status >= 500) == ("error.type" in attributes)
    assert "canary" not in str(encode_spans([span], {}))
    assert f"/{ORDER}" not in str(encode_spans([span], {}))


def test_what_a_request_made_is_what_it_is_about() -> None:
    headers = [(b"Location", f"/v1/orders/{ORDER}".encode())]
    with collect_spans() as spans, telemetry.start_span("POST", SpanKind.SERVER) as started:
        made = read_location(202, headers)
        describe_request(started, "POST", "/v1/orders", 202, {"path": "/v1/orders"}, made)
        assert read_location(200, headers) == ""
    assert spans.all[0].attributes["order.id"] == ORDER
    assert read_location(202, headers) == "", "nobody asks while nothing is recorded"


def test_a_call_names_the_server_and_no_id() -> None:
    with collect_spans() as spans, telemetry.start_span("POST /internal/x", SpanKind.CLIENT) as started:
        describe_call(started, "POST", "/internal/x", "http://orders:8080", 409)
    attributes: dict[str, Any] = spans.all[0].attributes
    assert (attributes["server.address"], attributes["server.port"]) == ("orders", 8080)
    assert attributes["error.type"] == "409"
