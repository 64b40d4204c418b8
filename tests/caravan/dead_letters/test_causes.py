"""Reasons that differ in ids, times and numbers are one cause; of a message its beginning is shown, without secrets."""

import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.bus import DEAD_LETTER_MAX_BYTES
from caravan.dead_letters.causes import compute_cause, redact_payload

SECRET = "S3CR3T-value"
words = st.text(string.ascii_lowercase + " :", min_size=1, max_size=30)
variable = st.one_of(
    st.uuids().map(str), st.integers(0, 10**9).map(str), st.datetimes().map(lambda moment: moment.isoformat() + "Z")
)


@given(st.lists(st.tuples(words, variable, variable), min_size=1, max_size=5))
def test_a_cause_does_not_depend_on_ids_times_and_numbers(parts: list[tuple[str, str, str]]) -> None:
    """As long as the same kind stands in the same place: a number is not an id."""
    for kind in (str.isdecimal, lambda text: text.count("-") == 4, lambda text: "T" in text):
        same = [(word, one, other) for word, one, other in parts if kind(one) and kind(other)]
        assert compute_cause("".join(f"{word} {one} " for word, one, _ in same)) == compute_cause(
            "".join(f"{word} {other} " for word, _, other in same)
        )


def test_other_words_are_another_cause() -> None:
    assert compute_cause("no stock for 12") == compute_cause("no stock for 7") != compute_cause("no money for 7")


@pytest.mark.parametrize(
    "text",
    [
        f'{{"password": "{SECRET}", "broken',
        f"https://shop/reset?token={SECRET}&x=1",
    ],
)
def test_no_secret_is_shown_of_a_message_that_is_no_json(text: str) -> None:
    assert SECRET not in str(redact_payload(text.encode(), len(text)))


def test_the_beginning_of_a_large_message_says_how_large_it_is() -> None:
    assert redact_payload(b'{"a": "bc', 10_000) == '{"a": "bc [... 10000 bytes]'
    assert redact_payload(b'{"a": 1}', 8) == {"a": 1}
    assert redact_payload(b"\xff\xfe", 2) == "��"


def test_the_page_names_the_size_over_which_a_letter_is_cut() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "retries-and-dead-letters.md").read_text()
    assert f"a message over {DEAD_LETTER_MAX_BYTES:,} bytes keeps its beginning only" in page
