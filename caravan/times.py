"""Parses the times and days that clients write: in parameters, bodies and cursors."""

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator

from caravan.errors import InvalidRequest

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_TIME = re.compile(rf"{_DAY.pattern}[Tt ]\d{{2}}:\d{{2}}:\d{{2}}(?:\.\d{{1,9}})?(?:[Zz]|[+-]\d{{2}}:\d{{2}})", re.ASCII)
FIRST_YEAR, LAST_YEAR = 1900, 2999
"""Some years more or less never leave what Python and Postgres can hold."""


def parse_time(value: Any) -> datetime:
    """RFC 3339 with its zone, in UTC; a day alone is its beginning in UTC. ValueError with the rule."""
    if isinstance(value, datetime):
        time = value
    elif isinstance(value, str) and _DAY.fullmatch(value):
        time = datetime.combine(_parse_day(value), datetime.min.time(), UTC)
    elif isinstance(value, str) and _TIME.fullmatch(value):
        time = _convert_text(datetime.fromisoformat, value.upper())
    else:
        raise ValueError("must be RFC 3339 with a zone, such as 2026-03-01T09:30:00Z (in a URL, + is written %2B)")
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return time.astimezone(UTC)


def _parse_day(value: Any) -> date:
    """YYYY-MM-DD. ValueError with the rule."""
    if isinstance(value, date) and not isinstance(value, datetime):
        day = value
    elif isinstance(value, str) and _DAY.fullmatch(value):
        day = _convert_text(date.fromisoformat, value)
    else:
        raise ValueError("must be a day, written YYYY-MM-DD")
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


def check_period(since: datetime | None, until: datetime | None) -> None:
    """The parameters `from` and `to` of one request. Raises InvalidRequest when they are the wrong way round."""
    if since and until and since > until:
        raise InvalidRequest(
            "`from` is after `to`; swap them", errors=[{"field": "query.from", "rule": "must not be after `to`"}]
        )


def _convert_text(convert: Any, text: str) -> Any:
    try:
        return convert(text)
    except ValueError:
        raise ValueError(f"{text} is not in the calendar") from None


Time = Annotated[datetime, BeforeValidator(parse_time)]
"""A time in a parameter or a body, also of a `Strict` one."""
Day = Annotated[date, BeforeValidator(_parse_day)]
