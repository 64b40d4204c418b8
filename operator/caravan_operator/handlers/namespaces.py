"""Labels of namespaces, for connections that allow some by their labels; read only when one does."""

import time
from collections.abc import Callable, Mapping

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources.resource import Resource

FRESH = 60.0


class Namespaces:
    def __init__(self, kubernetes: Kubernetes, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._known: dict[str, tuple[float, Mapping[str, str] | None]] = {}

    async def labels(self, resource: Resource, connection: Resource | None) -> Mapping[str, str] | None:
        """Labels of the resource's namespace; None when nobody asks, or they can't be read: nothing is allowed then."""
        if connection is None or (connection.spec.get("allowedNamespaces") or {}).get("from") != "Selector":
            return None
        name = resource.key.namespace
        at, found = self._known.get(name, (-FRESH, None))
        if self._clock() - at >= FRESH:
            try:
                answer = await self._kubernetes.get(f"/api/v1/namespaces/{name}")
                found = answer["metadata"].get("labels") or {}
            except ApiError:
                found = None
            self._known[name] = (self._clock(), found)
        return found
