"""One tree of errors, each with the status and the word that a client sees."""

import pytest

from caravan.errors import (
    TYPE_BASE,
    CapacityExceeded,
    Problem,
    RequestInFlight,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)


def list_problems(base: type[Problem]) -> list[type[Problem]]:
    return [each for child in base.__subclasses__() for each in (child, *list_problems(child))]


def test_each_kind_of_problem_has_a_status_of_an_error_and_a_word() -> None:
    own = [problem for problem in list_problems(Problem) if problem.__module__ == "caravan.errors"]
    assert all(400 <= problem.status < 600 for problem in own)
    words = [problem.slug for problem in own if problem is not CapacityExceeded]
    assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("problem", "header"),
    [
        (Unauthorized("no token"), ("WWW-Authenticate", 'Bearer realm="caravan"')),
        (RequestInFlight("wait"), ("Retry-After", "1")),
        (TooManyRequests("slow down", retry_after=7), ("Retry-After", "7")),
        (ServiceUnavailable("away", retry_after=3), ("Retry-After", "3")),
    ],
)
def test_a_problem_says_in_its_headers_what_to_do_next(problem: Problem, header: tuple[str, str]) -> None:
    assert header in problem.headers.items()
    assert problem.type == TYPE_BASE + problem.slug


def test_a_bound_that_is_reached_is_nobodys_fault() -> None:
    assert CapacityExceeded("full").fault == "unknown"
    assert ServiceUnavailable("away").fault == ""
