"""kopf watches; an event fills the cache and says which key to look at. What it decides is decided elsewhere."""

from collections.abc import Collection, Mapping
from typing import Any

import kopf

from caravan_operator.backends.kubernetes import credentials
from caravan_operator.handlers.arrivals import Arrivals
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.reconcile import RULES
from caravan_operator.resources import KINDS
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import EVENTS


class Watches:
    def __init__(self, cache: Cache, queue: WorkQueue, arrivals: Arrivals) -> None:
        self._cache = cache
        self._queue = queue
        self._arrivals = arrivals
        self._triggers: dict[Key, tuple[Any, ...]] = {}
        self.gone: list[Key] = []
        """Connections that were deleted: their clients are to be closed."""

    def registry(self) -> kopf.OperatorRegistry:
        """kopf's handlers, one per kind."""
        registry = kopf.OperatorRegistry()
        kopf.on.startup(registry=registry)(_settings)
        kopf.on.login(registry=registry)(_login)
        for kind in KINDS.values():
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(self._event(kind.name))
        return registry

    def _event(self, kind: str) -> Any:
        async def event(type: str | None, body: kopf.Body, **_: Any) -> None:
            EVENTS.labels(kind).inc()
            try:
                resource = Resource.of(kind, body)
                if type != "DELETED":
                    self._cache.put(resource)
                self.changed(resource, deleted=type == "DELETED", listed=type is None)
            finally:
                self._arrivals.saw(body)  # also one that nothing can be made of: the start doesn't wait for it

        return event

    def changed(self, resource: Resource, *, deleted: bool, listed: bool) -> None:
        """Put the key, and those that it concerns, into the right lane."""
        key = resource.key
        if deleted:
            self._removed(resource)
            return
        before = self._triggers.get(key)
        if before == resource.trigger:
            return  # our own status, or somebody's label
        self._triggers[key] = resource.trigger
        group = self._cache.connection_of(resource)
        self._queue.add(key, group, _lane(resource, listed))
        if key == group and not listed:
            for served in self._cache.served_by(key):
                self._queue.add(served, key, Lane.RETRY)

    def _removed(self, resource: Resource) -> None:
        key = resource.key
        self._triggers.pop(key, None)
        known = self._cache.get(key)
        if known is not None and known.uid == resource.uid:
            self._cache.remove(key)
            self._queue.discard(key)
        group = self._cache.connection_of(resource)
        if key == group:
            self.gone.append(key)
            concerned = self._cache.served_by(key)
        elif key.kind not in RULES:
            concerned = [group]
        else:
            concerned = [other.key for other in self._cache.rivals_of(resource)]
        for other in concerned:
            self._queue.add(other, group, Lane.RETRY)


def _lane(resource: Resource, listed: bool) -> Lane:
    if resource.deleted is not None:
        return Lane.DELETE
    if not resource.status:
        return Lane.NEW
    return Lane.SWEEP if listed and resource.applied else Lane.SPEC


async def _settings(settings: kopf.OperatorSettings, **_: Any) -> None:
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


async def _login(**_: Any) -> kopf.ConnectionInfo:
    return credentials()


def namespaces(names: Collection[str]) -> Mapping[str, Any]:
    """kopf's arguments: the given namespaces, or the whole cluster."""
    return {"namespaces": [*names]} if names else {"clusterwide": True}
