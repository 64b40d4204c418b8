"""Time and ids: the two inputs that models take as arguments, so that tests can pass their own."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import orjson
import uuid_utils
from asyncpg.pgproto.pgproto import UUID as _UUID  # a subclass, made and written in a tenth of the time

Clock = Callable[[], datetime]

_ID_LENGTH = 36
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc_now() -> datetime:
    return datetime.now(UTC)


def new_id() -> UUID:
    """A UUIDv7: sorts by the time it was made."""
    return _UUID(uuid_utils.uuid7().bytes)


def as_id(text: str) -> UUID:
    """Raises ValueError for what is none."""
    return _UUID(text)


def parse_id(text: str) -> UUID | None:
    """The id that a text is; None for any other text."""
    if len(text) != _ID_LENGTH:
        return None
    try:
        return _UUID(text)
    except ValueError:
        return None


def make_lowest_id(moment: datetime) -> UUID:
    """The id that sorts before all that were made at this moment or later."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def get_creation_time(identifier: UUID) -> datetime | None:
    """When a UUIDv7 was made; None for any other kind of id."""
    if identifier.version != 7:
        return None
    return EPOCH + timedelta(milliseconds=identifier.int >> 80)


def format_rfc3339(moment: datetime) -> str:
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    if not moment.microsecond:
        return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
    return orjson.dumps(moment, option=orjson.OPT_UTC_Z)[1:-1].decode()  # a quarter of the time of isoformat
