from caravan.cache import FifoCache


def test_the_entry_that_was_added_first_is_dropped() -> None:
    cache: FifoCache[str, int] = FifoCache(2)
    cache["a"], cache["b"] = 1, 2
    assert cache.get("a") == 1
    cache["c"] = 3
    assert dict(cache) == {"b": 2, "c": 3}


def test_a_new_value_of_a_key_drops_nothing() -> None:
    cache: FifoCache[str, int] = FifoCache(2)
    cache["a"], cache["b"] = 1, 2
    cache["a"] = 3
    assert dict(cache) == {"a": 3, "b": 2}
