"""The work begins when all that was there at the start has been seen: on half a cache, a second owner of a topic looks like the only one, and a gateway would be
told of half its services.

kopf has a barrier of its own, its index; each object that reaches it wakes all that wait there already, and with 10,000 objects the start does not end
(docs/adr/0016-no-index-of-kopf.md).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources import KINDS
from caravan_operator.status.metrics import ARRIVING

log = logging.getLogger(__name__)

SERVICES, SLICES = ("", "v1", "services"), ("discovery.k8s.io", "v1", "endpointslices")
WATCHED = (*((kind.group, kind.version, kind.plural) for kind in KINDS.values()), SERVICES, SLICES)
"""Group, version and plural of everything that is watched."""
LOOK_SECONDS = 0.1
LIST_SECONDS = 15.0


class Arrivals:
    def __init__(self, kubernetes: Kubernetes, namespaces: Collection[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._namespaces = namespaces
        self._clock = clock
        self._seen: set[str] = set()
        self.complete = False
        """Whether everything has been seen. It stays so."""

    def saw(self, body: Mapping[str, Any]) -> None:
        """A watch has brought this object."""
        if not self.complete:
            self._seen.add(body["metadata"]["uid"])

    async def wait(self) -> None:
        """Until the watches have brought what a list of the start shows; what is deleted meanwhile is no longer waited for."""
        awaited: set[str] | None = None
        while not self.complete:
            try:
                listed = await self._listed()
            except ApiError as error:
                log.warning("what there is could not be listed; asking again", extra={"error": str(error)})
                await asyncio.sleep(1.0)
                continue
            awaited = listed if awaited is None else awaited & listed
            again = self._clock() + LIST_SECONDS
            while awaited and self._clock() < again:
                awaited -= self._seen
                ARRIVING.set(len(awaited))
                await asyncio.sleep(LOOK_SECONDS if awaited else 0)
            self.complete = not awaited
        self._seen.clear()

    async def _listed(self) -> set[str]:
        found: set[str] = set()
        for group, version, plural in WATCHED:
            for namespace in self._namespaces or ("",):
                async for item in self._kubernetes.listed(group, version, plural, namespace):
                    found.add(item["uid"])
        return found
