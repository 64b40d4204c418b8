"""Traces are told by W3C's header, and what is none is ignored."""

import pytest

from caravan.telemetry.traceparents import find_origin, new_traceparent, parse_trace_id, parse_traceparent


def test_a_new_trace_is_one_that_is_read_again_and_no_other() -> None:
    first, second = new_traceparent(), new_traceparent()
    assert parse_traceparent(first) == first
    assert parse_trace_id(first) == first.split("-")[1] != parse_trace_id(second)
    assert parse_trace_id(None) is None


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "x",
        "00-abc-def-01",
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
        # What Python reads as a number too.
        f"00-{'1_' * 15}11-{'1' * 16}-01",
        f"00- {'1' * 30} -{'1' * 16}-01",
        f"00-{'1' * 32}-+{'1' * 15}-01",
        f"00-{'1' * 32}-{'1' * 16}- 1",
        "00-" + "\uff11" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_what_is_no_trace_is_none(value: str | None) -> None:
    assert parse_traceparent(value) is None


def test_a_trace_in_capitals_is_told_in_small_letters() -> None:
    assert parse_traceparent(f"00-{'AB' * 16}-{'CD' * 8}-01") == f"00-{'ab' * 16}-{'cd' * 8}-01"


def make_state(trace: str, span: str) -> str:
    return f"caravan={trace}-{span}"


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        7,
        "congo=t61rcWkgMzE",
        make_state("A" * 32, "b" * 16),
        make_state("0" * 32, "b" * 16),
        make_state("a" * 32, "0" * 16),
        make_state("a" * 32, "b" * 16) + ",other=1",
    ],
)
def test_of_a_state_that_is_not_ours_nothing_is_taken(state: str | None) -> None:
    assert find_origin(state) is None
