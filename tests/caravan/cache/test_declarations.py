"""What a declaration of a cache, a tag or an entry refuses."""

from dataclasses import replace

import pytest

from caravan.cache import Fill, TagKind, list_tag_kinds
from caravan.cache.declarations import MAX_LEASE_SECONDS, MAX_SECONDS, MAX_TAGS
from tests.caravan.cache.conftest import LAMP, LAMPS


def test_a_tag_is_its_kind_and_what_it_is_of() -> None:
    everything = TagKind("everything", "", (), "anything changed")
    assert (LAMP("a"), LAMP.pattern) == ("lamp:a", "lamp:<name>")
    assert (everything(), everything.pattern) == ("everything", "everything")
    assert list_tag_kinds([LAMPS, replace(LAMPS, tags=(everything, LAMP))]) == [everything, LAMP]


def test_a_tag_is_one_line() -> None:
    with pytest.raises(ValueError, match="one line"):
        LAMP("a\nlamp:b")


@pytest.mark.parametrize("seconds", [0, MAX_SECONDS + 1])
def test_no_entry_lives_longer_than_the_stamps_of_its_tags(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"shop\.lamps"):
        replace(LAMPS, seconds=seconds)
    with pytest.raises(ValueError, match=r"shop\.lamps"):
        replace(LAMPS, negative_seconds=seconds)


def test_no_lease_outlives_the_stamps_that_fence_it() -> None:
    with pytest.raises(ValueError, match="lease"):
        replace(LAMPS, lease_seconds=MAX_LEASE_SECONDS + 1)


def test_releases_whose_values_differ_share_no_entry() -> None:
    assert LAMPS.build_entry_key("a") != replace(LAMPS, version=2).build_entry_key("a")


def test_an_entry_has_so_many_tags_and_no_more() -> None:
    Fill(b"1", frozenset(map(str, range(MAX_TAGS))))
    with pytest.raises(ValueError, match="tags"):
        Fill(b"1", frozenset(map(str, range(MAX_TAGS + 1))))
