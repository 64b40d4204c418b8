"""What a service declares of its caches: what each holds, under which tags, and how old it may become.

`caravan cache` and docs/reference/cache.md show these declarations; `SharedCache` takes one with every read.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from caravan.messages import Channel

MAX_SECONDS = 3600.0
"""The longest life of an entry."""
MAX_LEASE_SECONDS = 30.0
MAX_TAGS = 1000
_SEPARATOR = "\n"
"""Divides the tags of an entry in Redis."""

Result = Literal["hit", "stale", "miss", "collapsed", "bypass"]
"""hit: an entry that is current. stale: an entry that is current and due for its early refresh, which is under way.
miss: computed for this reader. collapsed: computed once, by another reader. bypass: computed without the cache.
"""


@dataclass(frozen=True, slots=True)
class TagKind:
    """A family of tags, such as `product:<sku>`: an invalidation of one tag voids every entry that holds it."""

    name: str
    of: str
    """What stands behind the colon; empty when there is only one tag of this kind."""
    invalidated_by: tuple[Channel, ...]
    """The events that say so to whoever fills the entries."""
    when: str

    @property
    def pattern(self) -> str:
        return f"{self.name}:<{self.of}>" if self.of else self.name

    def __call__(self, part: object = "") -> str:
        tag = f"{self.name}:{part}" if self.of else self.name
        if _SEPARATOR in tag:
            raise ValueError(f"a tag is one line: {tag!r}")
        return tag


@dataclass(frozen=True, slots=True)
class Cache:
    """One kind of entry. `version` rises with each change of the values' shape, as processes of two releases share
    Redis.
    """

    name: str
    holds: str
    key: str
    """What tells two entries apart."""
    tags: tuple[TagKind, ...]
    scope: Literal["public", "user", "staff"]
    seconds: float
    """How old an entry may become when its invalidation was lost."""
    negative_seconds: float = 5.0
    """The same for the answer that there is nothing."""
    lease_seconds: float = 3.0
    """How long one process may compute while the others wait for it."""
    max_bytes: int = 256 * 1024
    version: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MAX_SECONDS or not 0 < self.negative_seconds <= MAX_SECONDS:
            raise ValueError(f"{self.name}: an entry lives more than 0 and at most {MAX_SECONDS:g} s")
        if not 0 < self.lease_seconds <= MAX_LEASE_SECONDS:
            raise ValueError(f"{self.name}: a lease lasts more than 0 and at most {MAX_LEASE_SECONDS:g} s")

    @property
    def service(self) -> str:
        return self.name.partition(".")[0]

    def build_entry_key(self, key: str) -> str:
        return f"cache:{self.name}:{self.version}:{key}"


@dataclass(frozen=True, slots=True)
class Fill:
    """What was computed: JSON, or None for "there is nothing", which is kept for a short time."""

    value: bytes | None
    tags: frozenset[str]
    seconds: float | None = None
    """A shorter life than the declared one, for what is not whole."""

    def __post_init__(self) -> None:
        if len(self.tags) > MAX_TAGS:
            raise ValueError(f"{len(self.tags)} tags; an entry has at most {MAX_TAGS}")


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    value: bytes | None
    result: Result
    seconds_left: float | None = None
    """Until the entry ends; None when the answer did not come from an entry."""


def list_tag_kinds(caches: Iterable[Cache]) -> list[TagKind]:
    """Each once, by name."""
    return sorted({kind for cache in caches for kind in cache.tags}, key=lambda kind: kind.name)
