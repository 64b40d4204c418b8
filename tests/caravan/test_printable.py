"""Foreign text that a terminal shows as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.printable import escape_unprintable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 茶", "plain, größer, 茶"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\u202eb", "a\\u202eb"),
        ("two\nlines", "two\\nlines"),
        ("a\u2028b", "a\\u2028b"),
        ("no\u00a0break", "no break"),
    ],
)
def test_what_steers_a_terminal_or_an_eye_is_written_as_an_escape(text: str, shown: str) -> None:
    assert escape_unprintable(text) == shown


@given(st.text())
def test_whatever_comes_is_printable_afterwards(text: str) -> None:
    assert escape_unprintable(text).isprintable()
    assert escape_unprintable(text, keep="\n").replace("\n", "").isprintable()
