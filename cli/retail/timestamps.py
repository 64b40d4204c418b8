"""How invoice files write dates and times: by numbers, by names of months in the languages of the known exports, as a
spreadsheet's day numbers. `date_words.py` has the names.
"""

import re
import unicodedata
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Literal

from cli.retail.date_words import WEEKDAYS, find_month, fold_accents, parse_zone

DateOrder = Literal["day-first", "month-first"]

MAX_CELL_LENGTH = 80
"""Characters of a cell that may be a date or a number; a longer one is neither, and no pattern is tried on it."""
_FIRST_YEAR, _LAST_YEAR = 1970, 2100

_TIME = (
    r"(?:(?:\s*[T,:]\s*|\s+)(?:(?:um|at|à|a|as|las|kl\.?|om|alle|o)\s+){0,2}(?P<h>[0-9]{1,2})"
    r"(?:\s*(?:[:.]|h)\s*(?P<m>[0-9]{2})(?:\s*(?:[:.]|m|min)\s*(?P<s>[0-9]{2})(?:[.,][0-9]{1,9})?)?"
    r"|\s*h|(?=\s*uhr)|(?=\s*[ap]\.?\s*m\b))"
    r"(?:\s*(?:uhr|hrs?|hs))?\s*(?P<half>[ap])?(?(half)\.?\s*m\.?)\s*(?P<zone>[^\s0-9].*)?)?"
)
_DAY = r"(?P<d>[0-9]{1,2})(?:st|nd|rd|th|er|re|e|o|a)?"
_NAME = r"(?P<name>[^\W\d_]{3,12})\.?"
_FORMS = tuple(
    re.compile(form + _TIME, re.IGNORECASE)
    for form in (
        r"(?P<y>[0-9]{4})(?P<sep>[-/.])(?P<mo>[0-9]{1,2})(?P=sep)(?P<d>[0-9]{1,2})",
        r"(?P<a>[0-9]{1,2})(?P<sep>[-/.])\s?(?P<b>[0-9]{1,2})(?P=sep)\s?(?P<y>[0-9]{4}|[0-9]{2})",
        r"(?P<y>(?:19|20)[0-9]{2})(?P<mo>[01][0-9])(?P<d>[0-3][0-9])",
        rf"{_DAY}[\s./-]*(?:(?:de|of|di)\s+|d')?{_NAME}[\s,./-]*(?:(?:de|of|del|di)\s+)?(?P<y>[0-9]{{4}}|[0-9]{{2}})",
        rf"{_NAME}[\s-]+{_DAY},?[\s-]+(?P<y>[0-9]{{4}})",
        rf"(?P<y>[0-9]{{4}})[\s/-]+{_NAME}[\s/-]+(?P<d>[0-9]{{1,2}})",
        # As `Date` of programs writes it: the year behind the time, or before it without a comma.
        rf"{_NAME}\s+(?P<d>[0-9]{{1,2}})\s+(?P<h2>[0-9]{{2}}):(?P<m2>[0-9]{{2}}):(?P<s2>[0-9]{{2}})\s+"
        r"(?:(?P<zone2>[A-Z]{3,4})\s+)?(?P<y>[0-9]{4})",
    )
)
_NUMERIC = _FORMS[1]
_COMPACT = re.compile(r"((?:19|20)[0-9]{6})T?([0-9]{2})([0-9]{2})([0-9]{2})?", re.IGNORECASE)
_DAY_NUMBER = re.compile(r"([0-9]{5})(?:[.,]([0-9]{1,15}))?")
_UNIX = re.compile(r"([0-9]{10})([0-9]{3})?(?:\.0*)?")
_DAY_ZERO = datetime(1899, 12, 30, tzinfo=UTC)
"""Of spreadsheets: day 45413 is 1 May 2024."""
_DAY_NUMBERS = range(32_874, 73_416)
"""1990 to 2100: no other five digits are taken for a day."""
_SECONDS = range(631_152_000, 4_102_444_800)


def _simplify_text(text: str) -> str:
    """One kind of space, digits and letters; the signs of East Asian dates as dashes."""
    plain = unicodedata.normalize("NFKC", text).replace("−", "-").replace("’", "'")
    plain = re.sub(r"\s*[年月년월]\s*", "-", plain)
    return re.sub(r"\s+", " ", re.sub(r"[日일]", " ", plain)).strip()


def _match_form(text: str) -> re.Match[str] | None:
    """By the first form that fits; a weekday before the date says nothing new."""
    plain = _simplify_text(text)
    for form in _FORMS:
        if form_match := form.fullmatch(plain):
            return form_match
    weekday, _, date_text = plain.partition(" ")
    if date_text and fold_accents(weekday.rstrip(".,")) in WEEKDAYS:
        return next((form_match for form in _FORMS if (form_match := form.fullmatch(date_text))), None)
    return None


def is_day_number(text: str) -> bool:
    """Whether it is a spreadsheet's number of a day, with the time as its fraction."""
    number_match = _DAY_NUMBER.fullmatch(text)
    return number_match is not None and int(number_match[1]) in _DAY_NUMBERS


@lru_cache(maxsize=65_536)
def detect_date_order(text: str) -> DateOrder | Literal["either"] | None:
    """Which order of day and month a date speaks for. Dots are written by those who write the day first."""
    form_match = _match_form(text) if len(text) <= MAX_CELL_LENGTH else None
    if not form_match or form_match.re is not _NUMERIC:
        return None
    a, b = int(form_match["a"]), int(form_match["b"])
    if a > 12 >= b:
        return "day-first"
    if b > 12 >= a:
        return "month-first"
    if a == b or a > 12 or not a or not b:
        return None
    return "day-first" if form_match["sep"] == "." else "either"


@lru_cache(maxsize=65_536)
def parse_timestamp(text: str, order: DateOrder) -> datetime | None:
    """In UTC; a date that names no zone is taken as UTC, one without a time as midnight."""
    if len(text) > MAX_CELL_LENGTH:
        return None
    try:
        moment = _parse_number(text) or _parse_form(text, order)
        return moment.astimezone(UTC) if moment and _FIRST_YEAR <= moment.year <= _LAST_YEAR else None
    except (ValueError, OverflowError):
        return None


def _parse_number(text: str) -> datetime | None:
    if is_day_number(text):
        seconds = round(float(text.replace(",", ".")) % 1 * 86_400)
        return _DAY_ZERO + timedelta(days=int(text[:5]), seconds=seconds)
    if (unix_match := _UNIX.fullmatch(text)) and int(unix_match[1]) in _SECONDS:
        return datetime.fromtimestamp(int(unix_match[1]), UTC)
    return None


def _parse_form(text: str, order: DateOrder) -> datetime | None:
    plain = _COMPACT.sub(
        lambda digits: f"{digits[1]} {digits[2]}:{digits[3]}:{digits[4] or '00'}", _simplify_text(text), count=1
    )
    form_match = _match_form(plain)
    if not form_match:
        return None
    fields = {name.removesuffix("2"): value for name, value in form_match.groupdict().items() if value is not None}
    year = int(fields["y"])
    if len(fields["y"]) == 2:
        year += 1900 if year >= 69 else 2000
    if "a" in fields:
        day, month = (int(fields["a"]), int(fields["b"]))[:: 1 if order == "day-first" else -1]
    else:
        day, month = int(fields["d"]), int(fields["mo"]) if "mo" in fields else find_month(fields["name"])
    hour, half = int(fields.get("h", 0)), fields.get("half", "").casefold()
    if half:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half == "p" else 0)
    return datetime(
        year,
        month,
        day,
        hour,
        int(fields.get("m", 0)),
        int(fields.get("s", 0)),
        tzinfo=parse_zone(fields.get("zone", "")),
    )
