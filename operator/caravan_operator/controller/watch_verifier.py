"""Compares the cache with what the API server lists (metadata only), and finds a watch that is stale: open, without
an error, and without events.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.resources import KINDS, Kind
from caravan_operator.resources.resource import Key

PERIOD_SECONDS = 120.0
STALE_AFTER = 90.0

_ResourceVersion = tuple[Key, str, int]


class WatchVerifier:
    def __init__(
        self,
        kubernetes: Kubernetes,
        cache: ResourceCache,
        namespaces: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._namespaces = namespaces
        self._clock = clock
        self._missed_since: dict[_ResourceVersion, float] = {}

    async def run(self) -> None:
        """Verify periodically, more often while something is missed."""
        while True:
            await asyncio.sleep(15.0 if self._missed_since else PERIOD_SECONDS)
            with suppress(ApiError):
                await self.verify_once()

    async def verify_once(self) -> None:
        """Compare once."""
        missed = await self._find_missed()
        self._missed_since = {version: self._missed_since.get(version, self._clock()) for version in missed}

    @property
    def is_stale(self) -> bool:
        """Whether the watches have not delivered a change for too long."""
        return any(self._clock() - since > STALE_AFTER for since in self._missed_since.values())

    async def _find_missed(self) -> set[_ResourceVersion]:
        """Resources that are listed newer than the cache has them, and those that it still has."""
        versions: set[_ResourceVersion] = set()
        for kind in KINDS.values():
            for namespace in self._namespaces or ("",):
                versions |= await self._list_versions(kind, namespace)
        listed_uids = {(key, uid) for key, uid, _ in versions}
        newer = {
            (key, uid, generation) for key, uid, generation in versions if not self._is_cached(key, uid, generation)
        }
        return newer | {
            (each.key, each.uid, each.generation) for each in self._cache if (each.key, each.uid) not in listed_uids
        }

    def _is_cached(self, key: Key, uid: str, generation: int) -> bool:
        resource = self._cache.get(key)
        return resource is not None and resource.uid == uid and resource.generation >= generation

    async def _list_versions(self, kind: Kind, namespace: str) -> set[_ResourceVersion]:
        return {
            (Key(kind.name, meta["namespace"], meta["name"]), meta["uid"], meta.get("generation", 1))
            async for meta in self._kubernetes.list_metadata(kind.group, kind.version, kind.plural, namespace)
        }
