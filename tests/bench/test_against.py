"""The comparison with another commit: what counts as worse, and what is noise."""

from typing import Any

import pytest

from bench.against import compare_pairs


def measured(paid: float, cpu: float, statements: float | None, **more: float) -> dict[str, Any]:
    return {"paid_per_second": paid, "cost_per_order": {"app_cpu_ms": cpu, "sql_statements": statements, **more}}


BEFORE = measured(100, 5, 10)


@pytest.mark.parametrize(
    ("now", "worse"),
    [
        (BEFORE, []),
        (measured(98.5, 5.15, 10.1), []),
        (measured(150, 2, 5), []),
        (measured(97, 5, 10), ["paid a second"]),
        (measured(100, 5.3, 10), ["app CPU ms an order"]),
        (measured(100, 5, 11), ["SQL statements an order"]),
        (measured(90, 6, 12), ["paid a second", "app CPU ms an order", "SQL statements an order"]),
    ],
)
def test_only_what_got_worse_by_more_than_the_noise_is_named(now: dict[str, Any], worse: list[str]) -> None:
    assert compare_pairs([(BEFORE, now)] * 3)[1] == worse


def test_the_table_shows_each_pair_and_the_median_of_the_ratios() -> None:
    text, worse = compare_pairs([(BEFORE, measured(paid, 5, 10)) for paid in (50, 101, 300, 101)])
    assert "| paid a second | 100.00 | 101.00 | 0.50 1.01 3.00 1.01 | 1.010 | within the noise |" in text
    assert worse == []


def test_a_figure_that_one_side_does_not_know_is_left_out() -> None:
    text, worse = compare_pairs([(measured(100, 5, None), measured(100, 5, 10, commits=3))])
    assert "statements" not in text
    assert "commits" not in text
    assert worse == []
