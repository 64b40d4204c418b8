"""A dictionary that stays small."""

from caravan.fifo_cache import FifoCache


def test_the_entry_that_was_added_first_goes_when_one_more_comes() -> None:
    cache: FifoCache[str, int] = FifoCache(2)
    cache["a"], cache["b"] = 1, 2
    cache["a"] = 3  # known already: nothing has to go
    assert dict(cache) == {"a": 3, "b": 2}
    cache["c"] = 4
    assert dict(cache) == {"b": 2, "c": 4}
