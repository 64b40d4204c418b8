"""What is an e-mail address, and which spellings are the same one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from caravan.email_address import EmailAddress, is_email_address, parse_email_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ada@Example.COM ", "ada@example.com"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ä@example.com", "ä@example.com"),
        ("ada@shop.local", "ada@shop.local"),
    ],
)
def test_an_address_is_kept_in_one_spelling(text: str, address: str) -> None:
    assert parse_email_address(text) == address
    assert is_email_address(text)


@pytest.mark.parametrize("text", ["", "ada", "ada@", "@example.com", "a b@example.com", "a" * 65 + "@example.com"])
def test_what_is_no_address_is_refused_with_the_rule(text: str) -> None:
    with pytest.raises(ValueError, match="must"):
        parse_email_address(text)
    assert not is_email_address(text)


def test_an_address_that_is_too_long_is_not_even_parsed() -> None:
    with pytest.raises(ValueError, match="at most 254 characters"):
        parse_email_address("a" * 1_000_000)


@given(st.emails())
def test_what_was_taken_is_taken_again_and_stays_the_same(text: str) -> None:
    if is_email_address(text):
        address = parse_email_address(text)
        assert parse_email_address(address) == address


def test_a_field_of_a_body_follows_the_rule_and_says_so() -> None:
    field: TypeAdapter[str] = TypeAdapter(EmailAddress)
    assert field.validate_python("Ada@Example.com") == "ada@example.com"
    assert field.json_schema()["format"] == "idn-email"
    with pytest.raises(ValidationError):
        field.validate_python("ada")
