"""A library that logs the same over and over is heard, and does not fill the log."""

import logging

from caravan.telemetry.repeat_filter import MAX_KINDS, RepeatFilter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


TEMPLATE = "Unable to connect to %s"


def make_record(name: str = "aiokafka", template: str = TEMPLATE, *values: object) -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, __file__, 1, template, values, None)


def test_of_one_kind_of_line_a_few_pass_and_the_next_one_later_says_how_many_were_left_out() -> None:
    clock = Clock()
    repeats = RepeatFilter(lines=3, seconds=60, clock=clock)
    passed = [repeats.filter(make_record("aiokafka", TEMPLATE, f"broker-{n}")) for n in range(1000)]
    assert passed == [True] * 3 + [False] * 997
    clock.now = 60
    later = make_record("aiokafka", TEMPLATE, "broker")
    assert repeats.filter(later)
    assert later.getMessage() == "Unable to connect to broker (997 more like it were left out since)"
    assert repeats.filter(again := make_record("aiokafka", TEMPLATE, "broker"))
    assert "left out" not in again.getMessage()


def test_other_loggers_other_templates_and_the_shops_own_lines_pass() -> None:
    repeats = RepeatFilter(lines=1, clock=Clock())
    assert repeats.filter(make_record())
    assert not repeats.filter(make_record())
    assert repeats.filter(make_record("aiormq"))
    assert repeats.filter(make_record("aiokafka", "Something else"))
    assert all(repeats.filter(make_record("caravan")) for _ in range(100))


def test_lines_that_are_all_different_take_no_memory_without_a_bound() -> None:
    repeats = RepeatFilter(clock=Clock())
    for number in range(3 * MAX_KINDS):
        assert repeats.filter(make_record("library", f"line {number}"))
    assert len(repeats._kinds) <= MAX_KINDS
