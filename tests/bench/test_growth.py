"""Growth: what counts as too much, and what is drawn."""

from pathlib import Path
from typing import Any

import pytest

from bench.growth_report import draw_growth, find_excesses, render_markdown


def step(
    cpu: float = 3, statements: float = 10, spin: float = 0.2, search: float = 1.5, *problems: str
) -> dict[str, Any]:
    return {
        "orders": 1000,
        "products": 2000,
        "round": {
            "paid_per_second": 250.0,
            "cost_per_order": {"app_cpu_ms": cpu, "postgres_cpu_ms": 1.0, "sql_statements": statements},
            "spin_seconds": [spin, spin],
            "problems": list(problems),
        },
        "table_bytes": {"orders.event": 2**20, "catalog.product": 3 * 2**20},
        "p95_ms": {"lists": {"20 newest": 2.0}, "searches": {"rare": 3.0}, "ratios": {"rare": search}},
    }


@pytest.mark.parametrize(
    ("last", "excesses"),
    [
        (step(), []),
        (step(cpu=3.19, statements=10.4), []),
        (step(cpu=3.3), ["CPU"]),
        (step(cpu=7, spin=0.4), []),
        (step(statements=10.6), ["statements"]),
        (step(search=2.1), ["search, rare"]),
        (step(3, 10, 0.2, 1.5, "an order is missing"), ["step 3"]),
    ],
)
def test_what_grows_past_its_bound_is_named(last: dict[str, Any], excesses: list[str]) -> None:
    found = find_excesses([step(), step(cpu=9, search=9), last])
    assert [text.split(":")[0].removesuffix(" of an order") for text in found] == excesses


def test_each_step_is_a_row_and_the_largest_tables_are_listed() -> None:
    result = {"date": "2026-12-01T00:00:00", "commit": "abc", "machine": {"cores": 2}, "load_average": [1.0]}
    text = render_markdown({**result, "steps": [step(), step(statements=11)]})
    assert "| 1,000 | 2,000 | 250 | 3.00 | 1.00 | 1.000 | 11.00 | 4 | 2.00 | 1.50 |" in text
    assert text.index("catalog.product") < text.index("orders.event")
    assert "over its bound: statements" in text
    assert "All bounds are kept." in render_markdown({**result, "steps": [step()]})


def test_the_picture_is_an_svg(tmp_path: Path) -> None:
    draw_growth([step(), step()], tmp_path / "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()
