"""Which of two content types a client gets."""

import pytest

from caravan.http import choose_content_type


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("text/csv;q=0", "json"),
        ("text/csv; q = 0.000", "json"),
        ("application/json, text/csv;q=0.1", "json"),
        ("text/csv;q=0.5, application/json;q=0.4", "csv"),
        ("text/csv;q=0.5, */*", "json"),
        ("text/csv, */*;q=0.1", "csv"),
        ("text/*;q=0.3, text/csv;q=0.9, application/json;q=0.5", "csv"),
        ("application/xml", "json"),
        ("*/*;q=0", "json"),
        ("text/csv;q=x", "csv"),
        ("," * 5000, "json"),
    ],
)
def test_the_greater_weight_wins_and_json_otherwise(accept: str, expected: str) -> None:
    assert choose_content_type(accept, "application/json", "text/csv").endswith(expected)
