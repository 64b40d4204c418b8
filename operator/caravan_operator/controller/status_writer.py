"""Statuses, written only when they differ from the stored ones, and Events for their transitions. The reporter decides
what they hold; `resource_writer.py` makes the patch.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.controller.resource_writer import ResourceWriter
from caravan_operator.resources import KINDS, RECONCILE_NOW_ANNOTATION
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import Condition, format_timestamp
from caravan_operator.status.status_patch import Event, build_status_patch, list_transition_events

log = logging.getLogger(__name__)
MAX_PENDING_EVENTS = 1000
"""Events on their way at a time; those beyond are not posted."""


class StatusWriter:
    def __init__(
        self, kubernetes: Kubernetes, resource_writer: ResourceWriter, clock: Callable[[], datetime], instance: str
    ) -> None:
        self._kubernetes = kubernetes
        self._resource_writer = resource_writer
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
        """Write what differs, and post Events for it. Raises StaleResource, ApiError."""
        token = resource.annotations.get(RECONCILE_NOW_ANNOTATION)
        if token != resource.status.get("reconcileToken") and resource.key.kind not in (
            "KafkaConnection",
            "RabbitMQConnection",
        ):
            status_fields = {**status_fields, "reconcileToken": token}
        patch = build_status_patch(resource, conditions, status_fields, self._clock())
        if not patch:
            return resource
        written = await self._resource_writer.patch_resource(resource, {"status": patch}, status=True)
        events = [*events]
        for event in [*events, *(() if events else list_transition_events(resource, patch))]:
            self.post_event(resource, event)
        return written

    def post_event(self, resource: Resource, event: Event) -> None:
        """Post an Event in the background, few at a time; losing one is harmless."""
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
