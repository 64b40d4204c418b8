"""Watches the custom resources with kopf: an event updates the cache and puts the key into the queue with its
priority. The reconcilers decide what follows.
"""

from collections.abc import Collection, Mapping
from typing import Any

import kopf

from caravan_operator.backends.kubernetes import load_credentials
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.initial_sync import InitialSync
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.reconcile import RULES
from caravan_operator.resources import KINDS
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import WATCH_EVENTS


class ResourceWatches:
    def __init__(self, cache: ResourceCache, queue: WorkQueue, initial_sync: InitialSync) -> None:
        self._cache = cache
        self._queue = queue
        self._initial_sync = initial_sync
        self._triggers: dict[Key, tuple[Any, ...]] = {}
        self.deleted_connections: list[Key] = []
        """Connections that were deleted: their clients are to be closed."""

    def build_registry(self) -> kopf.OperatorRegistry:
        """kopf's handlers, one per kind."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(_configure_kopf)
        kopf.on.login(registry=registry)(_log_in)
        for kind in KINDS.values():
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(
                self._build_handler(kind.name)
            )
        return registry

    def _build_handler(self, kind: str) -> Any:
        async def handle_event(type: str | None, body: kopf.Body, **_: Any) -> None:
            WATCH_EVENTS.labels(kind).inc()
            try:
                resource = Resource.from_body(kind, body)
                if type != "DELETED":
                    self._cache.put(resource)
                self.enqueue_change(resource, is_deleted=type == "DELETED", is_listed=type is None)
            finally:
                # also an object that can't be parsed: the initial sync must not wait for it
                self._initial_sync.record_object(body)

        return handle_event

    def enqueue_change(self, resource: Resource, *, is_deleted: bool, is_listed: bool) -> None:
        """Put the key, and those of the resources that it concerns, into the queue with their priority."""
        key = resource.key
        if is_deleted:
            self._handle_removal(resource)
            return
        previous = self._triggers.get(key)
        if previous == resource.trigger_state:
            return  # only our own status or a label has changed
        self._triggers[key] = resource.trigger_state
        group = self._cache.get_connection_key(resource)
        self._queue.add(key, group, _choose_priority(resource, is_listed))
        if key == group and not is_listed:
            for served_key in self._cache.list_served(key):
                self._queue.add(served_key, key, Priority.RETRY)

    def _handle_removal(self, resource: Resource) -> None:
        key = resource.key
        self._triggers.pop(key, None)
        cached = self._cache.get(key)
        if cached is not None and cached.uid == resource.uid:
            self._cache.remove(key)
            self._queue.discard(key)
        group = self._cache.get_connection_key(resource)
        if key == group:
            self.deleted_connections.append(key)
            affected = self._cache.list_served(key)
        elif key.kind not in RULES:
            affected = [group]
        else:
            affected = [other.key for other in self._cache.list_conflicting(resource)]
        for other in affected:
            self._queue.add(other, group, Priority.RETRY)


def _choose_priority(resource: Resource, is_listed: bool) -> Priority:
    if resource.deleted_at is not None:
        return Priority.DELETE
    if not resource.status:
        return Priority.NEW
    return Priority.SWEEP if is_listed and resource.is_applied else Priority.SPEC


async def _configure_kopf(settings: kopf.OperatorSettings, **_: Any) -> None:
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.inactivity_timeout = 70
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0


async def _log_in(**_: Any) -> kopf.ConnectionInfo:
    return await load_credentials()


def select_namespaces(names: Collection[str]) -> Mapping[str, Any]:
    """kopf's arguments: the given namespaces, or the whole cluster."""
    return {"namespaces": [*names]} if names else {"clusterwide": True}
