"""A dictionary in memory that stays small; what processes share is in `caravan/cache`."""

from collections import OrderedDict
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class FifoCache(OrderedDict[K, V]):
    """At most `max_entries`: when one more is added, the one that was added first is dropped.

    What is kept here is the same for everybody and cheap to get again, so that no bookkeeping at each read pays off.
    """

    def __init__(self, max_entries: int) -> None:
        super().__init__()
        self._max_entries = max_entries

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > self._max_entries:
            self.popitem(last=False)
