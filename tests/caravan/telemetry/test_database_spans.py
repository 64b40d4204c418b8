"""A commit is a span when it took long or failed; what only wrote in time has its place in the span around it."""

from collections.abc import Iterator

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from caravan import telemetry
from caravan.telemetry.database_spans import SLOW_NS, CommitObserver
from tests.support.spans import collect_spans


def observe(nanoseconds: int) -> CommitObserver:
    times: Iterator[int] = iter((5_000, 5_000 + nanoseconds))
    return CommitObserver("orders", lambda: next(times))


def test_a_slow_commit_is_a_span_that_names_its_database_and_began_with_it() -> None:
    with collect_spans() as spans, telemetry.start_span("POST /v1/orders", SpanKind.SERVER), observe(SLOW_NS):
        pass
    commit, request = spans.all
    assert (commit.name, commit.start_time) == ("COMMIT orders", 5_000)
    assert commit.parent_id == request.span_id
    assert dict(commit.attributes or {}) == {
        "db.system.name": "postgresql",
        "db.namespace": "orders",
        "db.operation.name": "COMMIT",
    }


def test_a_commit_in_time_is_none() -> None:
    with collect_spans() as spans, observe(SLOW_NS - 1):
        pass
    assert not spans.all


def test_a_commit_that_failed_is_one() -> None:
    with collect_spans() as spans, pytest.raises(OSError, match="gone"), CommitObserver("orders"):
        raise OSError("gone")
    (span,) = spans.all
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "OSError"


def test_what_a_sweeper_wrote_is_reason_enough_for_its_span() -> None:
    with collect_spans() as spans, telemetry.start_span("run sweep", SpanKind.INTERNAL, is_quiet=True), observe(1):
        pass
    assert [span.name for span in spans.all] == ["run sweep"]
