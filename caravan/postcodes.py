"""Postcodes by their country's rule: what addresses are checked by. `postcode_rules.py` has the rules."""

import re
import unicodedata
from functools import cache

from caravan.postcode_rules import RULES

UNKNOWN = "0"
"""What whoever enters the orders of other books writes for a postcode that these don't have."""


def _read(line: str) -> tuple[str, tuple[bool, str, str]]:
    example, _, pattern = line[4:].partition("  ")
    return line[:2], (line[2] == "!", example, pattern.strip())


_BY_COUNTRY = dict(map(_read, RULES.strip().splitlines()))


@cache
def _pattern(country: str) -> re.Pattern[str]:
    return re.compile(_BY_COUNTRY[country][2])


def read_postcode(postcode: str | None, country: str) -> str:
    """As the country writes it; empty where there is none. Raises ValueError with the rule."""
    if country not in _BY_COUNTRY or postcode == UNKNOWN:
        return postcode or ""
    needed, example, _ = _BY_COUNTRY[country]
    if postcode is None:
        if needed:
            raise ValueError(f"needed in {country}, such as {example}")
        return ""
    plain = unicodedata.normalize("NFKC", postcode).strip().upper()
    if _pattern(country).fullmatch(plain) is None:
        raise ValueError(f"must be a postcode of {country}, such as {example}")
    return plain
