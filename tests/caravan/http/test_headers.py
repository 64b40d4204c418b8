"""Headers of answers as the OpenAPI document says them."""

from typing import Any

from caravan.http.headers import HEADERS, describe_headers, document_headers


def test_every_answer_is_described_with_what_all_have_and_what_it_says_of_itself() -> None:
    operation: dict[str, Any] = {"responses": {"200": document_headers(200, "ETag")[200], "404": {}}}
    describe_headers(operation)
    assert operation["responses"]["200"]["headers"].keys() == {"X-Request-Id", "Cache-Control", "ETag"}
    assert operation["responses"]["404"]["headers"].keys() == {"X-Request-Id", "Cache-Control"}


def test_a_route_that_takes_a_key_may_answer_what_is_stored() -> None:
    operation: dict[str, Any] = {"parameters": [{"name": "idempotency-key"}], "responses": {"201": {}, "409": {}}}
    describe_headers(operation)
    assert operation["responses"]["201"]["headers"]["Idempotency-Replayed"] == HEADERS["Idempotency-Replayed"]
    assert "Idempotency-Replayed" not in operation["responses"]["409"]["headers"]
