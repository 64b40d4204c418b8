"""The operator's writes to the Kubernetes API: status, finalizer, claim, Events. Each is fenced, at the version that was read, and left out when it says nothing new."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from caravan_operator.backends.broker import Fence
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.handlers.cache import Cache
from caravan_operator.resources import CLAIM, FINALIZER, KINDS, RECONCILE_NOW
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import Condition, timestamp
from caravan_operator.status.document import Event, difference, transitions

log = logging.getLogger(__name__)
MOST_EVENTS = 1000
"""Events on their way at a time; those beyond are not posted."""


class Stale(Exception):
    """The resource has changed or gone since it was read: the pass comes again with the newer one."""


class Writes:
    def __init__(self, kubernetes: Kubernetes, cache: Cache, fence: Fence, clock: Callable[[], datetime], instance: str) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._fence = fence
        self._clock = clock
        self._instance = instance
        self._events: set[asyncio.Task[None]] = set()
        self._posting = asyncio.Semaphore(2)

    async def status(
        self, resource: Resource, conditions: Iterable[Condition], facts: Mapping[str, Any], told: Iterable[Event] = ()
    ) -> Resource:
        """Write what differs, and post Events for it. Raises Stale."""
        token = resource.annotations.get(RECONCILE_NOW)
        if token != resource.status.get("reconcileToken") and resource.key.kind not in ("KafkaConnection", "RabbitMQConnection"):
            facts = {**facts, "reconcileToken": token}
        patch = difference(resource, conditions, facts, self._clock())
        if not patch:
            return resource
        written = await self._patch(resource, {"status": patch}, status=True)
        told = [*told]
        for event in [*told, *(() if told else transitions(resource, patch))]:
            self.event(resource, event)
        return written

    async def claim(self, resource: Resource, *, finalizer: bool) -> Resource:
        """Say that the operator is about to create the object, and hold the resource until the object is dealt with. Raises Stale."""
        metadata: dict[str, Any] = {"annotations": {CLAIM: resource.uid}}
        if finalizer and not resource.finalized:
            metadata["finalizers"] = [*resource.finalizers, FINALIZER]
        return await self._patch(resource, {"metadata": metadata})

    async def finalizer(self, resource: Resource, *, wanted: bool) -> Resource:
        """Add or remove our finalizer. Raises Stale."""
        if resource.finalized == wanted:
            return resource
        rest = [name for name in resource.finalizers if name != FINALIZER]
        return await self._patch(resource, {"metadata": {"finalizers": [*rest, FINALIZER] if wanted else rest}})

    def event(self, resource: Resource, event: Event) -> None:
        """Post an Event in the background, few at a time and behind everything else: a lost one costs nothing."""
        if len(self._events) >= MOST_EVENTS:
            return
        task = asyncio.get_running_loop().create_task(self._post(resource, event))
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    async def close(self) -> None:
        """Give up the Events that are still on their way."""
        for task in self._events:
            task.cancel()
        await asyncio.gather(*self._events, return_exceptions=True)

    async def _patch(self, resource: Resource, change: Mapping[str, Any], *, status: bool = False) -> Resource:
        self._fence()
        try:
            written = await self._kubernetes.patch(resource, change, status=status)
        except ApiError as error:
            if error.status in (404, 409, 422):  # 422: the same name with another uid
                raise Stale(str(error)) from None
            raise
        self._cache.put(written, answer=True)
        return written

    async def _post(self, resource: Resource, event: Event) -> None:
        now = self._clock()
        kind = KINDS[resource.key.kind]
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{resource.key.name[:200]}.", "namespace": resource.key.namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "namespace": resource.key.namespace,
                "name": resource.key.name,
                "uid": resource.uid,
            },
            "reason": str(event.reason),
            "message": event.message[:1000],
            "type": "Warning" if event.warning else "Normal",
            "firstTimestamp": timestamp(now),
            "lastTimestamp": timestamp(now),
            "count": 1,
            "source": {"component": "caravan-operator", "host": self._instance},
            "reportingComponent": "caravan-operator",
            "reportingInstance": self._instance,
        }
        try:
            async with self._posting:
                await self._kubernetes.request("POST", f"/api/v1/namespaces/{resource.key.namespace}/events", body, patience=5.0)
        except ApiError as error:
            log.debug("event not posted", extra={"key": str(resource.key.path), "error": str(error)})
