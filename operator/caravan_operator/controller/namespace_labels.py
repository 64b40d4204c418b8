"""Labels of namespaces, for connections that allow namespaces by their labels. They are read only when such a
connection is used, and kept for a minute.
"""

import time
from collections.abc import Callable, Mapping

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.resources.resource import Resource

LABELS_MAX_AGE = 60.0


class NamespaceLabels:
    def __init__(self, kubernetes: Kubernetes, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._cached_labels: dict[str, tuple[float, Mapping[str, str] | None]] = {}

    async def get_labels(self, resource: Resource, connection: Resource | None) -> Mapping[str, str] | None:
        """Labels of the resource's namespace; None when the connection needs none, or when they can't be read."""
        if connection is None or (connection.spec.get("allowedNamespaces") or {}).get("from") != "Selector":
            return None
        name = resource.key.namespace
        read_at, labels = self._cached_labels.get(name, (-LABELS_MAX_AGE, None))
        if self._clock() - read_at >= LABELS_MAX_AGE:
            try:
                answer = await self._kubernetes.get(f"/api/v1/namespaces/{name}")
                labels = answer["metadata"].get("labels") or {}
            except ApiError:
                labels = None
            self._cached_labels[name] = (self._clock(), labels)
        return labels
