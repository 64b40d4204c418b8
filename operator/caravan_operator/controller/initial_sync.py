"""Holds the workers back until the watches have delivered every object that existed at the start. With half a cache,
the second owner of a topic would look like the only one, and a gateway would get half of its services.

kopf's own barrier (its index) is not used: each object that reaches it wakes all that wait there already, and with
10,000 objects the start doesn't end (docs/adr/0016-no-index-of-kopf.md).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources import KINDS
from caravan_operator.status.metrics import UNSYNCED_OBJECTS

log = logging.getLogger(__name__)

SERVICES, SLICES = ("", "v1", "services"), ("discovery.k8s.io", "v1", "endpointslices")
WATCHED_KINDS = (*((kind.group, kind.version, kind.plural) for kind in KINDS.values()), SERVICES, SLICES)
"""Group, version and plural of everything that is watched."""
CHECK_SECONDS = 0.1
RELIST_SECONDS = 15.0


class InitialSync:
    def __init__(
        self, kubernetes: Kubernetes, namespaces: Collection[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._kubernetes = kubernetes
        self._namespaces = namespaces
        self._clock = clock
        self._received_uids: set[str] = set()
        self.is_complete = False
        """Whether every object was delivered. It never becomes False again."""

    def record_object(self, body: Mapping[str, Any]) -> None:
        """A watch has delivered this object."""
        if not self.is_complete:
            self._received_uids.add(body["metadata"]["uid"])

    async def wait_until_complete(self) -> None:
        """Wait until the watches have delivered what a list at the start shows; objects that are deleted
        meanwhile are no longer waited for.
        """
        missing_uids: set[str] | None = None
        while not self.is_complete:
            try:
                listed_uids = await self._list_uids()
            except ApiError as error:
                log.warning("what there is could not be listed; asking again", extra={"error": str(error)})
                await asyncio.sleep(1.0)
                continue
            missing_uids = listed_uids if missing_uids is None else missing_uids & listed_uids
            relist_at = self._clock() + RELIST_SECONDS
            while missing_uids and self._clock() < relist_at:
                missing_uids -= self._received_uids
                UNSYNCED_OBJECTS.set(len(missing_uids))
                await asyncio.sleep(CHECK_SECONDS if missing_uids else 0)
            self.is_complete = not missing_uids
        self._received_uids.clear()

    async def _list_uids(self) -> set[str]:
        uids: set[str] = set()
        for group, version, plural in WATCHED_KINDS:
            for namespace in self._namespaces or ("",):
                async for item in self._kubernetes.list_metadata(group, version, plural, namespace):
                    uids.add(item["uid"])
        return uids
