"""Answers that all processes of the shop share in Redis, invalidated by tags: read by `shared`, kept by `server`.

Services declare what they keep there in their `caches.py` (`declarations`). What one process keeps for itself is in a
`caravan/fifo_cache.py` dictionary instead.
"""

from caravan.cache.declarations import Cache, CachedAnswer, Fill, Result, TagKind, list_tag_kinds
from caravan.cache.shared import SharedCache

__all__ = ["Cache", "CachedAnswer", "Fill", "Result", "SharedCache", "TagKind", "list_tag_kinds"]
