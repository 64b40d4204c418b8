"""Times of cron specs: the clock on the wall of a zone, also where clocks change."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caravan.jobs import Cron

ZONES = (
    "Europe/London",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "America/Sao_Paulo",
    "Pacific/Apia",
    "UTC",
)


def test_a_date_is_the_day_of_the_zone() -> None:
    assert Cron("0 12 1 7 *", "Europe/London").compute_next_time(datetime(2026, 1, 1, tzinfo=UTC)) == datetime(
        2026, 7, 1, 11, tzinfo=UTC
    )


def test_times_are_given_in_utc() -> None:
    assert Cron("0 9 * * *", "Europe/London").compute_next_time(
        datetime(2026, 6, 1, tzinfo=UTC)
    ).utcoffset() == timedelta(0)


@settings(deadline=None)  # 300 days each
@given(
    zone=st.sampled_from(ZONES),
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    start=st.dates(date(2025, 1, 1), date(2035, 12, 1)),
)
def test_a_daily_time_comes_once_on_each_day(zone: str, hour: int, minute: int, start: date) -> None:
    cron, there = Cron(f"{minute} {hour} * * *", zone), ZoneInfo(zone)
    moment = datetime(start.year, start.month, start.day, tzinfo=there) - timedelta(seconds=1)
    for offset in range(300):
        day = start + timedelta(days=offset)
        moment = cron.compute_next_time(moment)
        local = moment.astimezone(there)
        assert local.date() == day
        meant = datetime(day.year, day.month, day.day, hour, minute, tzinfo=there)
        skipped = meant.astimezone(UTC).astimezone(there).replace(tzinfo=None) != meant.replace(tzinfo=None)
        assert (local.hour, local.minute) == (hour, minute) or (skipped and local > meant)


@pytest.mark.parametrize(
    ("month", "day"),
    [pytest.param(3, 29, id="spring"), pytest.param(10, 25, id="autumn")],
)
def test_nine_o_clock_comes_once_on_the_day_of_a_change(month: int, day: int) -> None:
    cron = Cron("0 9 * * *", "Europe/London")
    first = cron.compute_next_time(datetime(2026, month, day, tzinfo=UTC))
    assert first.date() == date(2026, month, day)
    assert cron.compute_next_time(first).date() == date(2026, month, day) + timedelta(days=1)


@pytest.mark.parametrize("minutes", [0, 15, 29, 30, 59])
def test_what_has_run_is_not_due_again_in_the_hour_that_comes_twice(minutes: int) -> None:
    """London's clocks go back from 2 to 1 on 25 October 2026: a scheduler that starts then asks in the second hour."""
    second_hour = datetime(2026, 10, 25, 1, minutes, tzinfo=UTC)
    assert Cron("30 1 * * *", "Europe/London").compute_next_time(second_hour) == datetime(
        2026, 10, 26, 1, 30, tzinfo=UTC
    )


@pytest.mark.parametrize("pattern", ["0 r * * *", "0 9 * *", "60 9 * * *", "0 0 30 2 *", "0 9 * * * *", "@daily", ""])
def test_what_is_no_cron_spec_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"cron spec|no time that ever comes"):
        Cron(pattern)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "", "../../etc/passwd", "europe/london\x00"])
def test_a_zone_is_one_of_iana(zone: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        Cron("0 9 * * *", zone)
