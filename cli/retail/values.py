"""Parses empty values and numbers. Each number is read by the one convention that was found for the whole file."""

import re
import unicodedata
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from caravan.money import MINOR_DIGITS
from cli.retail.timestamps import MAX_CELL_LENGTH

Decimals = Literal["point", "comma"]

_EMPTY_WORDS = frozenset(
    """
    na nan nat null nil none empty blank missing unknown undefined anonymous guest void notavailable notapplicable
    notset notgiven nodata nul nulo ninguno aucun vide inconnu keine keiner leer unbekannt gast ohne nessuno geen
    onbekend brak nvalue novalue
    """.split()
)
_SIGNS = {
    sign: tuple(codes.split())
    for sign, codes in {
        "£": "GBP EGP FKP GIP SHP SDG SSP SYP LBP",
        "€": "EUR",
        "Euro": "EUR",
        "$": (
            "USD AUD BBD BMD BND BSD BZD CAD CLP COP CRC CUP DOP FJD GYD HKD JMD KYD LRD MXN NAD NIO NZD SBD SGD SRD "
            "TTD TWD UYU ARS XCD"
        ),
        "US$": "USD",
        "$US": "USD",
        "A$": "AUD",
        "AU$": "AUD",
        "C$": "CAD NIO",
        "CA$": "CAD",
        "NZ$": "NZD",
        "HK$": "HKD",
        "S$": "SGD",
        "NT$": "TWD",
        "MX$": "MXN",
        "R$": "BRL",
        "¥": "JPY CNY",
        "円": "JPY",
        "元": "CNY TWD",
        "₹": "INR",
        "Rs": "INR PKR LKR NPR MUR SCR",
        "Fr": "CHF XOF XAF DJF GNF RWF BIF KMF",
        "SFr": "CHF",
        "zł": "PLN",
        "Kč": "CZK",
        "Ft": "HUF",
        "kr": "SEK NOK DKK ISK",
        "₽": "RUB",
        "руб": "RUB",
        "₴": "UAH",
        "₺": "TRY",
        "TL": "TRY",
        "₩": "KRW KPW",
        "₪": "ILS",
        "₫": "VND",
        "฿": "THB",
        "₱": "PHP CUP",
        "₦": "NGN",
        "₡": "CRC",
        "₲": "PYG",
        "₵": "GHS",
        "₸": "KZT",
        "₼": "AZN",
        "₾": "GEL",
        "RM": "MYR",
        "Rp": "IDR",
        "R": "ZAR",
        "lei": "RON MDL",
    }.items()
}
"""What stands before or behind amounts. The first is meant where a file does not say which."""
AMBIGUOUS_CURRENCIES = _SIGNS["kr"]
"""Nobody can tell which of four `kr` means."""
_CODES = {sign.casefold(): codes for sign, codes in _SIGNS.items()} | {
    code.casefold(): (code,) for code in MINOR_DIGITS
}
_UNIT = "|".join(re.escape(sign) for sign in sorted(_CODES, key=lambda sign: -len(sign)))
_BEFORE = re.compile(rf"(?P<unit>{_UNIT})\.?\s*(?=[-+(.,0-9])", re.IGNORECASE)
_BEHIND = re.compile(rf"(?<=[-).,0-9\s])(?P<unit>{_UNIT})\.?$", re.IGNORECASE)
_NO_MINOR = re.compile(r"(?<=[0-9])(?:[.,]--?|\s?/-)$")
"""As Switzerland, Germany and India write amounts without a fraction: `12.-`, `12,--`, `99/-`."""
_ALIKE = str.maketrans(dict.fromkeys("−–—‐‑", "-") | dict.fromkeys("’‘ʼ´`", "'"))
_SPACES = re.compile(r"\s+")
_POINT = re.compile(
    r"(?:[0-9]{1,3}(?:([, '])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}|[0-9]{1,12})?(?:\.[0-9]{0,12})?"
)
_COMMA = re.compile(r"(?:[0-9]{1,3}(?:([. '])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,12})?(?:,[0-9]{0,12})?")


def is_empty_value(text: str) -> bool:
    """Every spelling of an empty cell: no sign at all, `-`, `NaN`, `#N/A`, `(null)`, `\\N`, `<NA>`, …"""
    plain = text.casefold()
    if plain == "\\n":
        return True
    words = re.sub(r"[\W_]+", "", plain)
    return not words or words in _EMPTY_WORDS


@lru_cache(maxsize=65_536)
def is_guest(text: str) -> bool:
    """The same, and the number zero: databases give guests the number 0."""
    return is_empty_value(text) or re.fullmatch(r"[+-]?0+(?:[.,]0*)?", text) is not None


@lru_cache(maxsize=65_536)
def detect_currencies(text: str) -> tuple[str, ...]:
    """What the sign or code before or behind an amount may mean, or one that stands alone; the likeliest first."""
    if len(text) > MAX_CELL_LENGTH:
        return ()
    plain = _normalize_text(text)
    return _CODES.get(plain.casefold().rstrip(".")) or _split_unit(plain)[1]


def _normalize_text(text: str) -> str:
    """One kind of spaces, dashes, apostrophes and digits."""
    plain = unicodedata.normalize("NFKC", text.translate(_ALIKE)).translate(_ALIKE)
    return _SPACES.sub(" ", plain).strip()


def _split_unit(plain: str) -> tuple[str, tuple[str, ...]]:
    """The text without its unit, and what that may mean; a unit may stand behind the sign or within the brackets:
    `-£6`, `(£6)`, `6 €-`.
    """
    sign = plain[0] if plain[:1] in ("-", "+", "(") else ""
    rest = plain[len(sign) :].lstrip()
    if unit_match := _BEFORE.match(rest):
        return sign + rest[unit_match.end() :], _CODES[unit_match["unit"].casefold()]
    tail = plain[-1] if plain[-1:] in ("-", ")") else ""
    rest = plain[: len(plain) - len(tail)].rstrip()
    if unit_match := _BEHIND.search(rest):
        return rest[: unit_match.start()].rstrip() + tail, _CODES[unit_match["unit"].casefold()]
    return plain, ()


def _split_sign(plain: str) -> tuple[str, bool]:
    """Without its sign; whether it is negative: `-6`, `6-`, `(6)`."""
    plain = _NO_MINOR.sub("", plain)
    if plain.startswith("(") and plain.endswith(")"):
        return plain[1:-1].strip(), True
    if plain.endswith("-") and not plain.startswith(("-", "+")):
        return plain[:-1].strip(), True
    if plain.startswith(("-", "+")):
        return plain[1:].strip(), plain.startswith("-")
    return plain, False


@lru_cache(maxsize=65_536)
def parse_number(text: str, decimals: Decimals, *, money: bool = False) -> Decimal | None:
    """Only amounts of money may have a unit: `2 DOZ` are not two."""
    if len(text) > MAX_CELL_LENGTH:
        return None
    plain = _normalize_text(text)
    plain, negative = _split_sign(_split_unit(plain)[0] if money else plain)
    form = _POINT if decimals == "point" else _COMMA
    if not form.fullmatch(plain) or not any(sign.isdigit() for sign in plain):
        return None
    for sign in " '" + ("," if decimals == "point" else "."):
        plain = plain.replace(sign, "")
    number = Decimal(plain.replace(",", "."))
    return -number if negative else number


@lru_cache(maxsize=65_536)
def detect_decimals(text: str, *, money: bool = False) -> Decimals | Literal["either"] | None:
    """Which convention a number speaks for; `either`: both can read it, and differently; None: it says nothing."""
    point, comma = parse_number(text, "point", money=money), parse_number(text, "comma", money=money)
    if point == comma:
        return None
    if point is None or comma is None:
        return "point" if comma is None else "comma"
    return ("point" if "." in text else "comma") if re.match(r"[^0-9]*0[.,]", text) else "either"
