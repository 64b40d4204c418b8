"""Postcodes by their country's rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.countries import COUNTRIES
from caravan.postcodes import _BY_COUNTRY, UNKNOWN, read_postcode

texts = st.text(max_size=20)


@pytest.mark.parametrize("country", COUNTRIES)
def test_each_rule_takes_its_own_example_in_any_letters_and_leaves_it_as_it_is(country: str) -> None:
    _, example, _ = _BY_COUNTRY.get(country, (False, "", ""))
    for written in (example, example.lower(), f" {example} "):
        assert read_postcode(written, country).strip() == example.strip()


def test_only_countries_have_rules() -> None:
    assert _BY_COUNTRY.keys() <= set(COUNTRIES)
    assert {"GB", "US", "DE", "JP", "IE"} <= _BY_COUNTRY.keys()
    assert "HK" not in _BY_COUNTRY


@given(texts, st.sampled_from(sorted(_BY_COUNTRY)))
def test_what_was_taken_is_taken_again_and_stays_the_same(postcode: str, country: str) -> None:
    try:
        taken = read_postcode(postcode, country)
    except ValueError as error:
        refusal = str(error)
        assert refusal.endswith(f"such as {_BY_COUNTRY[country][1]}")
    else:
        assert taken == UNKNOWN or (read_postcode(taken, country) == taken and taken == taken.upper())


@pytest.mark.parametrize("country", sorted(_BY_COUNTRY))
def test_an_address_is_without_one_only_where_that_is_usual(country: str) -> None:
    needed = _BY_COUNTRY[country][0]
    if not needed:
        assert read_postcode(None, country) == ""
        return
    with pytest.raises(ValueError, match=f"^needed in {country}, such as "):
        read_postcode(None, country)
