"""Every exception becomes a problem document, and tells a client nothing that is not meant for it."""

import orjson
import pytest

from caravan.errors import NotFound, Problem, ServiceUnavailable, TooManyRequests
from caravan.fault_attribution import FAULT_HEADER
from caravan.http.problems import convert_to_problem, format_allow_header, make_problem_response
from caravan.messages import MessageTooLarge


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (NotFound("no order 1"), 404),
        (ConnectionResetError("by the database"), 503),
        (MessageTooLarge("too much"), 422),
        (ZeroDivisionError("a secret"), 500),
    ],
)
def test_an_exception_is_told_by_what_a_client_can_do(error: Exception, status: int) -> None:
    problem = convert_to_problem(error, "/v1/orders")
    assert problem.status == status
    assert "secret" not in problem.detail


def test_a_document_names_the_rule_the_path_and_what_to_do_next() -> None:
    problem = TooManyRequests("slow down", retry_after=7)
    response = make_problem_response(problem, "/v1/orders")
    assert (response.status_code, response.media_type) == (429, "application/problem+json")
    assert response.headers["retry-after"] == "7"
    document = orjson.loads(bytes(response.body))
    assert (document["type"], document["title"], document["status"]) == (problem.type, problem.title, 429)
    assert (document["detail"], document["instance"]) == ("slow down", "/v1/orders")
    assert "errors" not in document


def test_fields_and_more_stand_in_the_document_and_the_fault_in_a_header() -> None:
    errors = [{"field": "lines.0.quantity", "rule": "at least 1"}]
    problem = Problem("not valid", errors=errors, balance=3)
    document = orjson.loads(bytes(make_problem_response(problem, "/").body))
    assert (document["errors"], document["balance"]) == (errors, 3)
    assert make_problem_response(ServiceUnavailable("away", fault="dependency"), "/").headers[FAULT_HEADER] == (
        "dependency"
    )


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    response = make_problem_response(NotFound("no \ud800"), "/")
    assert orjson.loads(bytes(response.body))["detail"] == "no ?"


def test_head_is_allowed_wherever_get_is() -> None:
    assert format_allow_header({"GET", "PATCH"}) == "GET, HEAD, PATCH"
    assert format_allow_header({"POST"}) == "POST"
