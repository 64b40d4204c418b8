"""Bars over time: as high as their amounts, with round lines behind them."""

import pytest

from services.gateway.console.bar_chart import HEIGHT, MOST_BARS, choose_step, draw_bars


def test_bars_are_as_high_as_their_amounts_and_stay_in_the_picture() -> None:
    chart = draw_bars([("1 Nov", 100), ("2 Nov", 50), ("3 Nov", 0)], str)
    high, half, none = chart.bars
    assert half.height == pytest.approx(high.height / 2, abs=0.2) and none.height == 0
    assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT and bar.x + bar.width <= 100 for bar in chart.bars)
    assert high.title == "1 Nov: 100"


def test_a_day_of_refunds_hangs_from_the_line_of_zero() -> None:
    chart = draw_bars([("1 Nov", 100), ("2 Nov", -40)], str)
    (zero,) = [line.y for line in chart.lines if line.label == "0"]
    assert chart.bars[1].y == zero and chart.bars[0].y + chart.bars[0].height == pytest.approx(zero, abs=0.2)


@pytest.mark.parametrize(
    ("highest", "lowest", "step"), [(0, 0, 1), (3, 0, 1), (27_820, 0, 10_000), (100, -40, 50), (999, 0, 500)]
)
def test_lines_stand_at_round_amounts(highest: int, lowest: int, step: int) -> None:
    assert choose_step(highest, lowest) == step
    assert 2 <= len(draw_bars([("a", highest), ("b", lowest)], str).lines) <= 7


def test_a_picture_without_values_and_one_with_too_many() -> None:
    assert draw_bars([], str).bars == []
    assert len(draw_bars([(str(number), number) for number in range(2 * MOST_BARS)], str).bars) == MOST_BARS


@pytest.mark.parametrize("count", [1, 2, 9, 30, 31, MOST_BARS])
def test_labels_begin_and_end_in_the_picture_and_a_phone_leaves_out_every_second(count: int) -> None:
    labels = draw_bars([(f"{number} Nov", number) for number in range(count)], str).labels
    assert 1 <= len(labels) <= 8
    for label in labels:
        space = {"start": 100 - label.x, "middle": min(label.x, 100 - label.x), "end": label.x}[label.anchor]
        assert space >= 10, label
    assert [label.is_extra for label in labels] == [index % 2 == 1 for index in range(len(labels))]
