"""The one reader of times and days that clients write: in parameters, bodies and cursors."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(rf"{_DAY.pattern}[Tt ]\d{{2}}:\d{{2}}:\d{{2}}(?:\.\d{{1,9}})?(?:[Zz]|[+-]\d{{2}}:\d{{2}})", re.ASCII)
FIRST_YEAR, LAST_YEAR = 1900, 2999
"""Some years more or less never leave what Python and Postgres can hold."""


def parse_time(given: Any) -> datetime:
    """RFC 3339 with its zone, in UTC; a day alone is its beginning in UTC. ValueError with the rule."""
    if isinstance(given, datetime):
        moment = given
    elif isinstance(given, str) and _DAY.fullmatch(given):
        moment = datetime.combine(parse_day(given), datetime.min.time(), UTC)
    elif isinstance(given, str) and _TIME.fullmatch(given):
        moment = _read(datetime.fromisoformat, given.upper())
    else:
        raise ValueError("must be RFC 3339 with a zone, such as 2026-03-01T09:30:00Z (in a URL, + is written %2B)")
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return moment.astimezone(UTC)


def parse_day(given: Any) -> date:
    """YYYY-MM-DD. ValueError with the rule."""
    if isinstance(given, date) and not isinstance(given, datetime):
        day = given
    elif isinstance(given, str) and _DAY.fullmatch(given):
        day = _read(date.fromisoformat, given)
    else:
        raise ValueError("must be a day, written YYYY-MM-DD")
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _read(reader: Any, text: str) -> Any:
    try:
        return reader(text)
    except ValueError:
        raise ValueError(f"{text} is not in the calendar") from None


Time = Annotated[datetime, BeforeValidator(parse_time)]
"""A time in a parameter or a body, also of a `Strict` one."""
Day = Annotated[date, BeforeValidator(parse_day)]
