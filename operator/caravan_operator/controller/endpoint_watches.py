"""Watches Services and EndpointSlices, keeps an index of them per namespace, and puts the gateways that a change
concerns into the queue.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import kopf

from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.initial_sync import SERVICES, SLICES, InitialSync
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.reconcile.endpoint_index import SERVICE_LABEL, EndpointIndex, EndpointSlice, Service
from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import WATCH_EVENTS

GATEWAY, GATEWAY_STATUS = "Gateway", "GatewayStatus"
"""Kinds of the queue's keys for the two passes over a gateway: publish its snapshot, report which pods use it."""


def get_status_key(gateway: Key) -> Key:
    return Key(GATEWAY_STATUS, gateway.namespace, gateway.name)


class EndpointWatches:
    def __init__(self, cache: ResourceCache, queue: WorkQueue, initial_sync: InitialSync) -> None:
        self._cache = cache
        self._queue = queue
        self._initial_sync = initial_sync
        self._indexes: dict[str, EndpointIndex] = defaultdict(EndpointIndex)
        self.changed_at: dict[Key, float] = {}
        """When the first change came that is not in the gateway's snapshot yet."""

    def get_index(self, namespace: str) -> EndpointIndex:
        return self._indexes[namespace]

    def register_handlers(self, registry: kopf.OperatorRegistry) -> None:
        for (group, version, plural), handle in ((SERVICES, self.handle_service), (SLICES, self.handle_slice)):
            kopf.on.event(group, version, plural, registry=registry, id=plural)(self._build_handler(handle, plural))

    def _build_handler(self, handle: Any, plural: str) -> Any:
        async def handle_event(type: str | None, body: kopf.Body, **_: Any) -> None:
            WATCH_EVENTS.labels(plural).inc()
            handle(body, deleted=type == "DELETED")
            self._initial_sync.record_object(body)

        return handle_event

    def handle_service(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        endpoint_index, name = self._indexes[body["metadata"]["namespace"]], body["metadata"]["name"]
        current = None if deleted else Service.from_body(body)
        if endpoint_index.get_service(name) == current:
            return
        if current is None:
            endpoint_index.drop_service(name)
        else:
            endpoint_index.put_service(current)
        self._wake_gateways(body["metadata"]["namespace"], name)

    def handle_slice(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        meta = body["metadata"]
        service = (meta.get("labels") or {}).get(SERVICE_LABEL, "")
        if self._indexes[meta["namespace"]].put_slice(
            service, meta["name"], None if deleted else EndpointSlice.from_body(body)
        ):
            self._wake_gateways(meta["namespace"], service)

    def _wake_gateways(self, namespace: str, service: str) -> None:
        for gateway in self._cache.list_connections(GATEWAY, namespace):
            routes = [self._cache.get(key) for key in self._cache.list_served(gateway)]
            if any(route and route.spec["serviceRef"]["name"] == service for route in routes):
                self.changed_at.setdefault(gateway, time.monotonic())
                self._queue.add(gateway, gateway, Priority.SPEC)
            if gateway.name == service:
                self._queue.add(get_status_key(gateway), get_status_key(gateway), Priority.SPEC)
