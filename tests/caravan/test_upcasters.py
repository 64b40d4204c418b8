"""Stored events of earlier versions are read as today's."""

import pytest

from caravan.events import EventStore
from caravan.messages import Event


class Moved(Event):
    version = 3
    street: str
    country: str


STORE = EventStore(
    [Moved],
    {
        (Moved.type, 1): lambda data: {"street": data["address"]},
        (Moved.type, 2): lambda data: {**data, "country": "GB"},
    },
)


@pytest.mark.parametrize(
    ("version", "data"), [(1, {"address": "A"}), (2, {"street": "A"}), (3, {"street": "A", "country": "GB"})]
)
def test_an_event_of_any_version_becomes_todays(version: int, data: dict[str, str]) -> None:
    assert STORE.decode_event(Moved.type, version, data) == Moved(street="A", country="GB")


def test_a_version_without_a_way_up_is_an_error() -> None:
    with pytest.raises(KeyError):
        EventStore([Moved]).decode_event(Moved.type, 1, {"address": "A"})
