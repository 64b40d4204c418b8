"""A span keeps what it is told until it ends, once."""

import pytest
from opentelemetry.trace import SpanKind, Status, StatusCode

from caravan.telemetry.recorded_span import RecordedSpan

PARENT = "00-5b8efff798038103d269b633813fc60c-eee19b7ec3c1b174-01"


def make_span(ended: list[RecordedSpan], parent: str = PARENT) -> RecordedSpan:
    return RecordedSpan(ended.append, "orders", "work", SpanKind.INTERNAL, parent, (), {"a": 1})


def test_it_is_handed_over_once() -> None:
    ended: list[RecordedSpan] = []
    span = make_span(ended)
    assert span.is_recording()
    span.end(5)
    span.end(6)
    assert (ended, span.end_time, span.is_recording()) == ([span], 5, False)


def test_it_says_what_it_was_told_last() -> None:
    span = make_span([])
    span.update_name("more work")
    span.set_attribute("a", 2)
    span.set_attributes({"b": "x"})
    span.set_status(StatusCode.ERROR, "why")
    assert (span.name, span.attributes) == ("more work", {"a": 2, "b": "x"})
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "why")
    span.set_status(Status(StatusCode.OK))
    assert span.status.is_ok


def test_it_is_found_by_its_traceparent() -> None:
    ended: list[RecordedSpan] = []
    span = make_span(ended)
    context = span.get_span_context()
    assert span.traceparent == f"00-{context.trace_id:032x}-{context.span_id:016x}-01"
    assert context.trace_flags.sampled
    span.add_link(context)
    assert span.links == [span.traceparent]


@pytest.mark.parametrize(("flags", "parent_id"), [("00", None), ("01", PARENT[36:52]), ("03", PARENT[36:52])])
def test_a_parent_that_is_not_recorded_is_none(flags: str, parent_id: str | None) -> None:
    span = make_span([], PARENT[:53] + flags)
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], parent_id)


def test_an_error_is_told_without_its_secret() -> None:
    span = make_span([])
    span.record_exception(ValueError("refused with password=canary"))
    assert span.attributes["error.type"] == "ValueError"
    assert "canary" not in str(span.status.description)


def test_an_event_is_kept_with_its_moment() -> None:
    span = make_span([])
    span.add_event("here", {"a": 1}, 7)
    assert span.events == [("here", 7, {"a": 1})]
