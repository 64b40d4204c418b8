"""Watches Services and EndpointSlices, and wakes the gateways that a change concerns."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import kopf

from caravan_operator.handlers.arrivals import SERVICES, SLICES, Arrivals
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.reconcile.places import SERVICE_LABEL, Places, Service, Slice
from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import EVENTS

GATEWAY, GATEWAY_STATUS = "Gateway", "GatewayStatus"
"""What the queue calls the two halves of the work for a gateway: what it shall know, and whether it does."""


def status_of(gateway: Key) -> Key:
    return Key(GATEWAY_STATUS, gateway.namespace, gateway.name)


class PlaceWatches:
    def __init__(self, cache: Cache, queue: WorkQueue, arrivals: Arrivals) -> None:
        self._cache = cache
        self._queue = queue
        self._arrivals = arrivals
        self._places: dict[str, Places] = defaultdict(Places)
        self.changed: dict[Key, float] = {}
        """When the first change came that a gateway has not been told yet."""

    def of(self, namespace: str) -> Places:
        return self._places[namespace]

    def register(self, registry: kopf.OperatorRegistry) -> None:
        for (group, version, plural), put in ((SERVICES, self.service), (SLICES, self.slice)):
            kopf.on.event(group, version, plural, registry=registry, id=plural)(self._event(put, plural))

    def _event(self, put: Any, plural: str) -> Any:
        async def event(type: str | None, body: kopf.Body, **_: Any) -> None:
            EVENTS.labels(plural).inc()
            put(body, deleted=type == "DELETED")
            self._arrivals.saw(body)

        return event

    def service(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        places, name = self._places[body["metadata"]["namespace"]], body["metadata"]["name"]
        now = None if deleted else Service.of(body)
        if places.service(name) == now:
            return
        if now is None:
            places.drop_service(name)
        else:
            places.put_service(now)
        self._wake(body["metadata"]["namespace"], name)

    def slice(self, body: Mapping[str, Any], *, deleted: bool) -> None:
        meta = body["metadata"]
        service = (meta.get("labels") or {}).get(SERVICE_LABEL, "")
        if self._places[meta["namespace"]].put_slice(service, meta["name"], None if deleted else Slice.of(body)):
            self._wake(meta["namespace"], service)

    def _wake(self, namespace: str, service: str) -> None:
        for gateway in self._cache.connections(GATEWAY, namespace):
            routes = [self._cache.get(key) for key in self._cache.served_by(gateway)]
            if any(route and route.spec["serviceRef"]["name"] == service for route in routes):
                self.changed.setdefault(gateway, time.monotonic())
                self._queue.add(gateway, gateway, Lane.SPEC)
            if gateway.name == service:
                self._queue.add(status_of(gateway), status_of(gateway), Lane.SPEC)
