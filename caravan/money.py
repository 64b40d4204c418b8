"""Money as integer minor units of one currency; no float ever touches an amount.

How many digits a currency's minor units have is known here alone: `format_amount` writes an amount for people,
`convert_to_decimal` for spreadsheets, `parse_amount` reads one.
"""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_AMOUNT = 10**15
"""The largest amount in minor units that any column or sum holds."""

_CODES_BY_DIGITS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: """AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW
        CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR
        ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV
        MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD
        SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW
        ZWG""",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
MINOR_DIGITS = {code: digits for digits, codes in _CODES_BY_DIGITS.items() for code in codes.split()}
"""Every currency of ISO 4217 list one (of 1 January 2026) that has minor units, which leaves out metals, funds of banks
and codes for tests.
"""


def _check_currency(code: str) -> str:
    if code not in MINOR_DIGITS:
        raise ValueError("must be a currency of ISO 4217 with minor units, three capital letters such as GBP")
    return code


Currency = Annotated[
    str,
    AfterValidator(_check_currency),
    Field(json_schema_extra={"enum": sorted(MINOR_DIGITS)}, description="ISO 4217", examples=["GBP"]),
]
"""What somebody sets a price in. `Money` itself reads any code: an amount may be older than the list."""
_AMOUNT = re.compile(r"(-?)(\d+|\d{1,3}(?:,\d{3})+)(?:\.(\d+))?")


class Money(BaseModel):
    """`{"amount": 1999, "currency": "GBP"}` is 19.99 pounds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    amount: Annotated[
        int, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT, description="minor units, pence for GBP", examples=[1999])
    ]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$", description="ISO 4217", examples=["GBP"])]

    def __str__(self) -> str:
        return f"{format_amount(self.amount, self.currency)} {self.currency}"


def get_minor_digits(currency: str) -> int:
    """How many decimals an amount of this currency is written with. Two for a code that is on no list: an amount may be
    older than the list.
    """
    return MINOR_DIGITS.get(currency, 2)


def format_amount(amount: int, currency: str) -> str:
    """Minor units as people write them, without the code: 123456 pence are `1,234.56`, 1250 yen `1,250`, 12345 fils
    `12.345`.
    """
    digits = get_minor_digits(currency)
    units, rest = divmod(abs(amount), 10**digits)
    return f"{'-' if amount < 0 else ''}{units:,}{f'.{rest:0{digits}d}' if digits else ''}"


def convert_to_decimal(amount: int, currency: str) -> Decimal:
    """For spreadsheets: 123456 pence are 1234.56, 1250 yen 1250."""
    return Decimal(amount).scaleb(-get_minor_digits(currency))


def parse_amount(text: str, currency: str) -> int:
    """Minor units of what people write. ValueError for what is no amount, or has a fraction of a minor unit."""
    match = _AMOUNT.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is no amount: write digits, with a point before the decimals")
    sign, units, decimals = match[1], match[2].replace(",", ""), (match[3] or "").rstrip("0")
    digits = get_minor_digits(currency)
    if len(decimals) > digits:
        raise ValueError(f"{text!r} has {len(decimals)} decimals; {currency} has {digits}")
    amount = int(units + decimals.ljust(digits, "0"))
    return -amount if sign else amount
