"""Times and days that clients write are read in one way, or refused with the rule."""

import base64
from datetime import UTC, datetime, timedelta, timezone

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from caravan.dead_letters.schemas import Selection
from caravan.errors import BadRequest
from caravan.http import decode_cursor
from caravan.times import FIRST_YEAR, LAST_YEAR, Time, parse_time

zones = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(
    lambda offset: timezone(timedelta(minutes=offset // timedelta(minutes=1)))
)


@given(st.datetimes(timezones=zones))
def test_every_time_is_read_as_meant_or_refused_with_the_rule(moment: datetime) -> None:
    try:
        read = parse_time(moment.isoformat())
    except ValueError as error:
        refusal = str(error)
        assert not FIRST_YEAR <= moment.year <= LAST_YEAR
        assert str(FIRST_YEAR) in refusal
        return
    assert read == moment
    assert read.utcoffset() == timedelta(0)


@given(st.text(max_size=40) | st.integers() | st.floats() | st.none() | st.booleans() | st.lists(st.integers()))
def test_nothing_else_is_a_time(given: object) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|calendar|years"):
        parse_time(given)


@pytest.mark.parametrize(
    "text",
    ["2026", "1700000000", "2026-03-01T09:30:00", "2026-03-01 09:30", "0001-01-01T00:00:00+14:00",
    "2026-02-30T00:00:00Z", "now", "",
     "9999-12-31T23:59:59-14:00", "2026-03-01T25:00:00Z", "2026-03-01T09:30:00Z\n", "٢٠٢٦-03-01T09:30:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_a_client_error_in_parameters_and_cursors(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Time).validate_python(text)

    cursor = base64.urlsafe_b64encode(orjson.dumps([text])).decode()
    with pytest.raises(BadRequest):
        decode_cursor(cursor, parse_time)


def test_a_day_alone_is_its_beginning() -> None:
    assert parse_time("2026-03-01") == datetime(2026, 3, 1, tzinfo=UTC)


def test_a_time_is_taken_in_strict_bodies() -> None:
    selected = Selection.model_validate({"cause": "x", "failed_before": "2026-03-01T09:30:00+02:00"})
    assert selected.failed_before == datetime(2026, 3, 1, 7, 30, tzinfo=UTC)
