"""The operator's writes to the Kubernetes API: status, finalizer, claim, Events. Each is fenced, at the version that
was read, and left out when it says nothing new.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from caravan_operator.backends.broker import Fence
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.resources import CLAIM_ANNOTATION, FINALIZER, KINDS, RECONCILE_NOW_ANNOTATION
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import Condition, format_timestamp
from caravan_operator.status.status_patch import Event, build_status_patch, list_transition_events

log = logging.getLogger(__name__)
MAX_PENDING_EVENTS = 1000
"""Events on their way at a time; those beyond are not posted."""


class StaleResource(Exception):
    """The resource has changed or gone since it was read: the pass comes again with the newer one."""


class StatusWriter:
    def __init__(
        self, kubernetes: Kubernetes, cache: ResourceCache, fence: Fence, clock: Callable[[], datetime], instance: str
    ) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._fence = fence
        self._clock = clock
        self._instance = instance
        self._event_tasks: set[asyncio.Task[None]] = set()
        self._event_slots = asyncio.Semaphore(2)

    async def write_status(
        self,
        resource: Resource,
        conditions: Iterable[Condition],
        status_fields: Mapping[str, Any],
        events: Iterable[Event] = (),
    ) -> Resource:
        """Write what differs, and post Events for it. Raises StaleResource."""
        token = resource.annotations.get(RECONCILE_NOW_ANNOTATION)
        if token != resource.status.get("reconcileToken") and resource.key.kind not in (
            "KafkaConnection",
            "RabbitMQConnection",
        ):
            status_fields = {**status_fields, "reconcileToken": token}
        patch = build_status_patch(resource, conditions, status_fields, self._clock())
        if not patch:
            return resource
        written = await self._patch_resource(resource, {"status": patch}, status=True)
        events = [*events]
        for event in [*events, *(() if events else list_transition_events(resource, patch))]:
            self.post_event(resource, event)
        return written

    async def write_claim(self, resource: Resource, *, finalizer: bool) -> Resource:
        """Say that the operator is about to create the object, and hold the resource until the object is dealt with.
        Raises StaleResource.
        """
        metadata: dict[str, Any] = {"annotations": {CLAIM_ANNOTATION: resource.uid}}
        if finalizer and not resource.has_finalizer:
            metadata["finalizers"] = [*resource.finalizers, FINALIZER]
        return await self._patch_resource(resource, {"metadata": metadata})

    async def set_finalizer(self, resource: Resource, *, present: bool) -> Resource:
        """Add or remove our finalizer. Raises StaleResource."""
        if resource.has_finalizer == present:
            return resource
        others = [name for name in resource.finalizers if name != FINALIZER]
        return await self._patch_resource(
            resource, {"metadata": {"finalizers": [*others, FINALIZER] if present else others}}
        )

    def post_event(self, resource: Resource, event: Event) -> None:
        """Post an Event in the background, few at a time and behind everything else: a lost one costs nothing."""
        if len(self._event_tasks) >= MAX_PENDING_EVENTS:
            return
        task = asyncio.get_running_loop().create_task(self._send_event(resource, event))
        self._event_tasks.add(task)
        task.add_done_callback(self._event_tasks.discard)

    async def close(self) -> None:
        """Give up the Events that are still on their way."""
        for task in self._event_tasks:
            task.cancel()
        await asyncio.gather(*self._event_tasks, return_exceptions=True)

    async def _patch_resource(self, resource: Resource, change: Mapping[str, Any], *, status: bool = False) -> Resource:
        self._fence()
        try:
            written = await self._kubernetes.patch(resource, change, status=status)
        except ApiError as error:
            if error.status in (404, 409, 422):  # 422: the same name with another uid
                raise StaleResource(str(error)) from None
            raise
        self._cache.put(written, from_patch=True)
        return written

    async def _send_event(self, resource: Resource, event: Event) -> None:
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
            "firstTimestamp": format_timestamp(now),
            "lastTimestamp": format_timestamp(now),
            "count": 1,
            "source": {"component": "caravan-operator", "host": self._instance},
            "reportingComponent": "caravan-operator",
            "reportingInstance": self._instance,
        }
        try:
            async with self._event_slots:
                await self._kubernetes.request(
                    "POST", f"/api/v1/namespaces/{resource.key.namespace}/events", body, retry_seconds=5.0
                )
        except ApiError as error:
            log.debug("event not posted", extra={"key": str(resource.key.namespaced_name), "error": str(error)})
