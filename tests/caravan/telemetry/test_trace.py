"""Traces are told by W3C's header, and what is none is ignored."""

import pytest

from caravan.telemetry.trace import new_traceparent, parse_trace_id, parse_traceparent


def test_a_new_trace_is_one_that_is_read_again_and_no_other() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert parse_traceparent(first) == first
    assert parse_trace_id(first) == first.split("-")[1] != parse_trace_id(second)
    assert parse_trace_id(None) is None


@pytest.mark.parametrize("value", [None, "", "x", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "00-abc-def-01"])
def test_what_is_no_trace_is_none(value: str | None) -> None:
    assert parse_traceparent(value) is None
