"""Compares the cache with what the API server lists, as metadata only. It tells when the cache is complete, and when a watch has gone deaf without an error."""

import asyncio
import time
from collections.abc import Collection
from urllib.parse import quote

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.handlers.cache import Cache
from caravan_operator.resources import KINDS, Kind
from caravan_operator.resources.resource import Key

PERIOD = 120.0
DEAF_AFTER = 90.0
PAGE = 500

_Seen = tuple[Key, str, int]


class Audit:
    def __init__(self, kubernetes: Kubernetes, cache: Cache, namespaces: Collection[str]) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._namespaces = namespaces
        self._missed: dict[_Seen, float] = {}
        self.complete = False
        """Whether the cache has held everything at least once."""

    async def watch(self) -> None:
        """Every second until the cache is complete, then from time to time."""
        while True:
            try:
                missed = await self.missed()
            except ApiError:
                missed = None
            if missed is not None:
                self.complete = self.complete or not missed
                now = time.monotonic()
                self._missed = {seen: self._missed.get(seen, now) for seen in missed}
            await asyncio.sleep(PERIOD if self.complete and not self._missed else 1.0 if not self.complete else 15.0)

    @property
    def deaf(self) -> bool:
        """Whether a change has been there for long and the watches have not brought it."""
        return any(time.monotonic() - since > DEAF_AFTER for since in self._missed.values())

    async def missed(self) -> set[_Seen]:
        """Resources that are listed newer than the cache has them."""
        found: set[_Seen] = set()
        for kind in KINDS.values():
            for namespace in self._namespaces or ("",):
                found |= await self._listed(kind, namespace)
        return {(key, uid, generation) for key, uid, generation in found if not self._has(key, uid, generation)}

    def _has(self, key: Key, uid: str, generation: int) -> bool:
        resource = self._cache.get(key)
        return resource is not None and resource.uid == uid and resource.generation >= generation

    async def _listed(self, kind: Kind, namespace: str) -> set[_Seen]:
        where = f"namespaces/{namespace}/" if namespace else ""
        path = f"/apis/{kind.group}/{kind.version}/{where}{kind.plural}?limit={PAGE}"
        found: set[_Seen] = set()
        token = ""
        while True:
            answer = await self._kubernetes.metadata(path + (f"&continue={quote(token)}" if token else ""))
            for item in answer["items"] or ():
                meta = item["metadata"]
                found.add((Key(kind.name, meta["namespace"], meta["name"]), meta["uid"], meta.get("generation", 1)))
            token = answer["metadata"].get("continue", "")
            if not token:
                return found
