"""Times and ids in the one form that they have on the wire, whatever way is the quickest to write it."""

from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

from hypothesis import example, given
from hypothesis import strategies as st

from caravan.clock import as_id, format_rfc3339, get_creation_time, new_id, utc_now

ZONES = st.one_of(
    st.just(UTC), st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
)
MOMENTS = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=ZONES)


@given(MOMENTS)
@example(datetime(2026, 1, 1, tzinfo=UTC))
@example(datetime(2026, 1, 1, microsecond=1, tzinfo=timezone(timedelta(0))))
@example(datetime(2026, 1, 1, 1, microsecond=10, tzinfo=timezone(timedelta(hours=2))))
def test_a_time_is_written_in_utc_with_all_six_decimals(moment: datetime) -> None:
    written = format_rfc3339(moment)
    assert len(written) == 27
    assert written[10] == "T"
    assert written[19] == "."
    assert written.endswith("Z")
    assert datetime.fromisoformat(written) == moment


@given(st.uuids())
def test_an_id_that_was_read_is_the_one_that_was_written(identifier: UUID) -> None:
    read = as_id(str(identifier))
    assert read == identifier
    assert hash(read) == hash(identifier)
    assert str(read) == str(identifier)
    assert {read, identifier} == {identifier}


def test_a_new_id_tells_when_it_was_made() -> None:
    before = utc_now()
    identifier = new_id()
    assert isinstance(identifier, UUID)
    assert identifier.version == 7
    assert str(UUID(str(identifier))) == str(identifier)
    made = get_creation_time(identifier)
    assert made is not None
    assert before - timedelta(milliseconds=1) <= made <= utc_now()
