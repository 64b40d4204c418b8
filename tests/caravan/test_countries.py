"""Countries are the codes of ISO 3166-1, written as it has them, and the API's schema lists them."""

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from caravan.countries import COUNTRIES, Country

ADAPTER: TypeAdapter[str] = TypeAdapter(Country)


def test_there_are_249_each_once_and_in_order() -> None:
    assert len(COUNTRIES) == 249
    assert list(COUNTRIES) == sorted(set(COUNTRIES))
    assert all(re.fullmatch("[A-Z]{2}", code) for code in COUNTRIES)


@pytest.mark.parametrize("code", ["GB", "DE", "AX", "TW"])
def test_a_code_is_taken_as_it_is(code: str) -> None:
    assert ADAPTER.validate_python(code) == code


@pytest.mark.parametrize("code", ["UK", "EU", "XK", "gb", "GB ", "GBR", "826", "", "ZZ"])
def test_whatever_is_no_assigned_code_is_refused_with_the_rule(code: str) -> None:
    with pytest.raises(ValidationError, match="must be a country of ISO 3166-1, two capital letters such as GB"):
        ADAPTER.validate_python(code)


def test_the_schema_names_them() -> None:
    assert ADAPTER.json_schema()["enum"] == list(COUNTRIES)
