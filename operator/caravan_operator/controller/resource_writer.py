"""Patches of custom resources. Each is fenced by the Lease, names the version that was read, and updates the cache.

The stage `apply` writes claims with it, the reporter finalizers; `status_writer.py` writes statuses through it.
"""

from collections.abc import Mapping
from typing import Any

from caravan_operator.backends.broker import Fence
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.resources import CLAIM_ANNOTATION, FINALIZER
from caravan_operator.resources.resource import Resource


class StaleResource(Exception):
    """The resource has changed or gone since it was read: the pass comes again with the newer one."""


class ResourceWriter:
    def __init__(self, kubernetes: Kubernetes, cache: ResourceCache, fence: Fence) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._fence = fence

    async def write_claim(self, resource: Resource, *, finalizer: bool) -> Resource:
        """Record that the operator is about to create the object, and hold the resource until the object is dealt with.
        Raises StaleResource, ApiError.
        """
        metadata: dict[str, Any] = {"annotations": {CLAIM_ANNOTATION: resource.uid}}
        if finalizer and not resource.has_finalizer:
            metadata["finalizers"] = [*resource.finalizers, FINALIZER]
        return await self.patch_resource(resource, {"metadata": metadata})

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer. Raises StaleResource, ApiError."""
        if resource.has_finalizer == present:
            return resource
        others = [name for name in resource.finalizers if name != FINALIZER]
        return await self.patch_resource(
            resource, {"metadata": {"finalizers": [*others, FINALIZER] if present else others}}
        )

    async def patch_resource(self, resource: Resource, change: Mapping[str, Any], *, status: bool = False) -> Resource:
        """Merge patch of the resource, or of its status. Raises StaleResource, ApiError."""
        self._fence()
        try:
            written = await self._kubernetes.patch(resource, change, status=status)
        except ApiError as error:
            if error.status in (404, 409, 422):  # 422: the same name with another uid
                raise StaleResource(str(error)) from None
            raise
        self._cache.put(written, from_patch=True)
        return written
