"""Compares the cache with what the API server lists, as metadata only. It tells when a watch has gone deaf without an error."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.handlers.cache import Cache
from caravan_operator.resources import KINDS, Kind
from caravan_operator.resources.resource import Key

PERIOD = 120.0
DEAF_AFTER = 90.0

_Seen = tuple[Key, str, int]


class Audit:
    def __init__(
        self, kubernetes: Kubernetes, cache: Cache, namespaces: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._namespaces = namespaces
        self._clock = clock
        self._missed: dict[_Seen, float] = {}

    async def watch(self) -> None:
        """From time to time."""
        while True:
            await asyncio.sleep(15.0 if self._missed else PERIOD)
            with suppress(ApiError):
                await self.look()

    async def look(self) -> None:
        """Compare once."""
        missed = await self._differences()
        self._missed = {seen: self._missed.get(seen, self._clock()) for seen in missed}

    @property
    def deaf(self) -> bool:
        """Whether a change has been there for long and the watches have not brought it."""
        return any(self._clock() - since > DEAF_AFTER for since in self._missed.values())

    async def _differences(self) -> set[_Seen]:
        """Resources that are listed newer than the cache has them, and those that it still has."""
        listed: set[_Seen] = set()
        for kind in KINDS.values():
            for namespace in self._namespaces or ("",):
                listed |= await self._listed(kind, namespace)
        there = {(key, uid) for key, uid, _ in listed}
        newer = {(key, uid, generation) for key, uid, generation in listed if not self._has(key, uid, generation)}
        return newer | {(each.key, each.uid, each.generation) for each in self._cache if (each.key, each.uid) not in there}

    def _has(self, key: Key, uid: str, generation: int) -> bool:
        resource = self._cache.get(key)
        return resource is not None and resource.uid == uid and resource.generation >= generation

    async def _listed(self, kind: Kind, namespace: str) -> set[_Seen]:
        return {
            (Key(kind.name, meta["namespace"], meta["name"]), meta["uid"], meta.get("generation", 1))
            async for meta in self._kubernetes.listed(kind.group, kind.version, kind.plural, namespace)
        }
