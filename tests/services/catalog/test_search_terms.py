"""What of a query is looked up in the table of words."""

import pytest

from services.catalog.store.search_terms import Alternatives, Term, is_plain, list_ranges, parse_query


def word(text: str, excluded: bool = False) -> Term:
    return Term(text, excluded=excluded)


def beginning(text: str) -> Term:
    return Term(text, is_beginning=True)


@pytest.mark.parametrize(
    ("query", "alternatives"),
    [
        ("", []),
        ("'mug'", [(word("mug"),)]),
        ("'blue' & 'mug' | 'blue':* & 'mug':*", [(beginning("blue"), beginning("mug"))]),
        ("'3.5' | '3':* & '5':*", [(word("3.5"),), (beginning("3"), beginning("5"))]),
        ("'mug' & !'blue'", [(word("mug"), word("blue", excluded=True))]),
        ("!!'mug'", [(word("mug"),)]),
        ("'travel' <-> 'kettl' & 'tea'", [(word("travel"), word("kettl"), word("tea"))]),
        ("'mug' & !( 'a' <2> 'b' )", [(word("mug"),)]),
        ("!( 'a' | 'b' )", [()]),
        ("'mug' & ( 'a' | 'b' )", [(word("mug"), word("a")), (word("mug"), word("b"))]),
        ("'it''s' & 'a\\\\b':A", [(word("it's"), word("a\\b"))]),
    ],
)
def test_a_query_is_read_as_alternatives_that_find_no_less(query: str, alternatives: Alternatives) -> None:
    assert parse_query(query) == alternatives


def test_alternatives_stay_few() -> None:
    query = " & ".join(f"( 'a{number}' | 'b{number}' )" for number in range(12))
    assert len(parse_query(query)) <= 64


@pytest.mark.parametrize(
    ("term", "ranges"),
    [
        (word("mug"), [("mug", "mug\x01")]),
        (word("m2"), [("m2", "m2\x01"), ("#m2", "#m2\x01")]),
        (beginning("mug"), [("^mug", "^mug\x01")]),
        (beginning("lanter"), [("lanter", "lanter\U0010ffff")]),
    ],
)
def test_a_term_is_found_under_its_entries(term: Term, ranges: list[tuple[str, str]]) -> None:
    assert list_ranges(term) == ranges


@pytest.mark.parametrize(
    ("text", "plain"),
    [("blue mug", True), (" 500 ml ", True), ("τσάι", True), ("t-shirt", False), ("tea or mug", False), ("a_b", False)],
)
def test_plain_is_what_holds_words_alone(text: str, plain: bool) -> None:
    assert is_plain(text) is plain
