"""How invoice files write nothing, numbers and dates; each is read by the one convention that was found for the whole file."""

import re
import unicodedata
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from caravan.money import MINOR_DIGITS

Decimals = Literal["point", "comma"]
DateOrder = Literal["day-first", "month-first"]

_NOTHING = frozenset(
    """
    na nan nat null nil none empty blank missing unknown undefined anonymous guest void notavailable notapplicable notset notgiven nodata
    nul nulo ninguno aucun vide inconnu keine keiner leer unbekannt gast ohne nessuno geen onbekend brak nvalue novalue
    """.split()
)
_SIGNS = {"£": "GBP", "€": "EUR", "$": "USD", "¥": "JPY", "₹": "INR", "zł": "PLN"}
_CODE = re.compile(r"\s*(?:[A-Z]{3}|[£€$¥₹]|zł)\s*")
_SPACES = re.compile(r"[\s\u00a0\u2007\u2009\u202f]+")
_POINT = re.compile(r"(?:[0-9]{1,3}(?:([, '’])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,12})?(?:\.[0-9]{0,12})?")
_COMMA = re.compile(r"(?:[0-9]{1,3}(?:([. '’])[0-9]{3})(?:\1[0-9]{3})*|[0-9]{1,12})?(?:,[0-9]{0,12})?")

_TIME = (
    r"(?:(?:\s+|\s*[T,]\s*)(?P<h>[0-9]{1,2})[:.](?P<m>[0-9]{2})(?:[:.](?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"\s*(?P<half>[AaPp])?(?(half)\.?[Mm]\.?)\s*(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2})?)?"
)
_ISO = re.compile(r"(?P<y>[0-9]{4})(?P<sep>[-/.])(?P<mo>[0-9]{1,2})(?P=sep)(?P<d>[0-9]{1,2})" + _TIME)
_COMPACT = re.compile(r"(?P<y>(?:19|20)[0-9]{2})(?P<mo>[01][0-9])(?P<d>[0-3][0-9])" + _TIME)
_NUMERIC = re.compile(r"(?P<a>[0-9]{1,2})(?P<sep>[-/.])(?P<b>[0-9]{1,2})(?P=sep)(?P<y>[0-9]{4}|[0-9]{2})" + _TIME)
_NAMED = re.compile(r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?[\s.-]+(?P<name>[^\W\d_]{3,12})\.?[\s,.-]+(?P<y>[0-9]{4}|[0-9]{2})" + _TIME)
_NAME_FIRST = re.compile(r"(?P<name>[^\W\d_]{3,12})\.?\s+(?P<d>[0-9]{1,2})(?:st|nd|rd|th)?,?\s+(?P<y>[0-9]{4})" + _TIME)
_MONTHS = {
    name: number
    for number, names in enumerate(
        """
        jan ene gen sty|feb fév fev lut|mar mär mrt|apr avr abr kwi|may mai mei mag maj|jun giu cze|jul juil lug lip|aug aoû aou ago sie
        sep set wrz|oct okt ott paź|nov lis|dec déc dez dic gru
        """.replace("\n        sep", "|sep").split("|"),
        start=1,
    )
    for name in names.split()
}
"""By their first letters, in the languages of the known exports."""


def is_nothing(text: str) -> bool:
    """Every spelling of an empty cell: no sign at all, `-`, `NaN`, `#N/A`, `(null)`, `\\N`, `<NA>`, …"""
    plain = text.casefold()
    if plain == "\\n":
        return True
    words = re.sub(r"[\W_]+", "", plain)
    return not words or words in _NOTHING


@lru_cache(maxsize=65_536)
def is_no_customer(text: str) -> bool:
    """The same, and the number zero: databases give guests the number 0."""
    return is_nothing(text) or re.fullmatch(r"[+-]?0+(?:[.,]0*)?", text) is not None


@lru_cache(maxsize=65_536)
def currency_in(text: str) -> str | None:
    """The currency whose sign or code stands before or behind an amount."""
    found = _CODE.search(text)
    code = _SIGNS.get(found[0].strip(), found[0].strip()) if found else None
    return code if code in MINOR_DIGITS else None


def _bare(text: str) -> tuple[str, bool]:
    """Without currency, sign and odd spaces; whether it is negative: `-6`, `−6`, `6-`, `(6)`."""
    plain = unicodedata.normalize("NFKC", _CODE.sub("", text, count=1)).replace("−", "-").strip()
    plain = _SPACES.sub(" ", plain)
    if plain.startswith("(") and plain.endswith(")"):
        return plain[1:-1].strip(), True
    if plain.endswith("-") and not plain.startswith(("-", "+")):
        return plain[:-1].strip(), True
    if plain.startswith(("-", "+")):
        return plain[1:].strip(), plain.startswith("-")
    return plain, False


@lru_cache(maxsize=65_536)
def read_number(text: str, decimals: Decimals) -> Decimal | None:
    plain, negative = _bare(text)
    if not plain.isascii() and "’" not in plain:
        return None
    form = _POINT if decimals == "point" else _COMMA
    if not form.fullmatch(plain) or not any(sign.isdigit() for sign in plain):
        return None
    for sign in " '’" + ("," if decimals == "point" else "."):
        plain = plain.replace(sign, "")
    number = Decimal(plain.replace(",", "."))
    return -number if negative else number


@lru_cache(maxsize=65_536)
def decimals_of(text: str) -> Decimals | Literal["either"] | None:
    """Which convention a number speaks for; `either`: both can read it, and differently; None: it says nothing."""
    point, comma = read_number(text, "point"), read_number(text, "comma")
    if point == comma:
        return None
    if point is None or comma is None:
        return "point" if comma is None else "comma"
    return ("point" if "." in text else "comma") if re.match(r"[^0-9]*0[.,]", text) else "either"


@lru_cache(maxsize=65_536)
def date_order_of(text: str) -> DateOrder | Literal["either"] | None:
    """Which order of day and month a date speaks for. Dots are written by those who write the day first."""
    found = _NUMERIC.fullmatch(text)
    if not found:
        return None
    a, b = int(found["a"]), int(found["b"])
    if a > 12 >= b:
        return "day-first"
    if b > 12 >= a:
        return "month-first"
    if a == b or a > 12 or not a or not b:
        return None
    return "day-first" if found["sep"] == "." else "either"


@lru_cache(maxsize=65_536)
def read_moment(text: str, order: DateOrder) -> datetime | None:
    """In UTC; a date that names no zone is taken as UTC, one without a time as midnight."""
    for form in (_ISO, _NUMERIC, _COMPACT, _NAMED, _NAME_FIRST):
        found = form.fullmatch(text)
        if found:
            break
    else:
        return None
    parts = found.groupdict()
    year = int(parts["y"])
    if len(parts["y"]) == 2:
        year += 1900 if year >= 69 else 2000
    if "a" in parts:
        day, month = (int(parts["a"]), int(parts["b"]))[:: 1 if order == "day-first" else -1]
    elif "name" in parts:
        name = parts["name"].lower()
        found_month = 6 if name.startswith("juin") else _MONTHS.get(name[:4]) or _MONTHS.get(name[:3], 0)
        day, month = int(parts["d"]), found_month
    else:
        day, month = int(parts["d"]), int(parts["mo"])
    hour = int(parts["h"] or 0)
    if parts["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if parts["half"] in "Pp" else 0)
    try:
        moment = datetime(year, month, day, hour, int(parts["m"] or 0), int(parts["s"] or 0), tzinfo=_zone(parts["zone"]))
        return moment.astimezone(UTC) if 1970 <= year <= 2100 else None
    except ValueError:
        return None


def _zone(text: str | None) -> timezone:
    if text is None or text[0] not in "+-":
        return UTC
    shift = timedelta(hours=int(text[1:3]), minutes=int(text[-2:]))
    return timezone(-shift if text[0] == "-" else shift)
