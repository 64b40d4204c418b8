"""An amount has as many decimals as its currency, for every currency, wherever it is written or read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caravan.money import MAX_AMOUNT, MINOR_DIGITS, Money, format_amount, parse_amount
from services.notifications.rendering import format_money as in_a_mail

currencies = st.sampled_from(sorted(MINOR_DIGITS))
amounts = st.integers(-MAX_AMOUNT, MAX_AMOUNT)


@pytest.mark.parametrize(
    ("amount", "currency", "written"),
    [
        (375000, "GBP", "3,750.00 GBP"),
        (3750, "JPY", "3,750 JPY"),
        (12345, "KWD", "12.345 KWD"),
        (12345, "CLF", "1.2345 CLF"),
        (5, "TND", "0.005 TND"),
        (-5, "EUR", "-0.05 EUR"),
        (0, "KRW", "0 KRW"),
    ],
)
def test_money_is_written_with_the_decimals_of_its_currency(amount: int, currency: str, written: str) -> None:
    assert str(Money(amount=amount, currency=currency)) == written
    assert in_a_mail({"amount": amount, "currency": currency}) == written


@given(amounts, currencies)
def test_what_is_written_is_read_back(amount: int, currency: str) -> None:
    text = format_amount(amount, currency)
    assert parse_amount(text, currency) == amount
    assert len(text.partition(".")[2]) == MINOR_DIGITS[currency]


@given(amounts, currencies)
def test_the_same_number_is_another_amount_where_the_minor_digits_differ(amount: int, currency: str) -> None:
    assert parse_amount(str(amount), currency) == amount * 10 ** MINOR_DIGITS[currency]


@pytest.mark.parametrize(
    ("text", "currency"),
    [("1.5", "JPY"), ("1.2345", "KWD"), ("0.001", "GBP"), ("", "GBP"), ("1,00", "GBP"), ("1e3", "GBP"), ("nan", "GBP")],
)
def test_what_is_no_amount_of_the_currency_is_refused(text: str, currency: str) -> None:
    with pytest.raises(ValueError, match=r"is no amount|decimals"):
        parse_amount(text, currency)
