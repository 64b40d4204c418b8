"""The work for a gateway, in two halves that don't wait for each other: compile and publish its snapshot; ask its pods what they have, and write that down."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from caravan_operator.backends.broker import Fence
from caravan_operator.backends.gateway import GatewayPods, Pod
from caravan_operator.backends.kubernetes import ApiError, Kubernetes
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.places import GATEWAY, PlaceWatches, status_of
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.handlers.snapshots import Snapshots
from caravan_operator.handlers.writes import Stale, Writes
from caravan_operator.reconcile.programmed import Published, programmed
from caravan_operator.reconcile.service_route import MAX_BYTES, Compiled, compile_snapshot, read
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.metrics import RECONCILE_ERRORS, RECONCILES, SNAPSHOT_SECONDS, SNAPSHOTS

log = logging.getLogger(__name__)
KIND = "ServiceRoute"
FILE = "snapshot.json"
GRACE, LOOK_AGAIN = 2.0, 0.1
"""Seconds that gateways have to take a snapshot before the status says that they haven't, and until they are asked again in this time."""
WRITERS = 8


@dataclass(slots=True)
class _State:
    compiled: Compiled
    published: Published
    at: float


class Gateways:
    def __init__(
        self,
        kubernetes: Kubernetes,
        cache: Cache,
        queue: WorkQueue,
        places: PlaceWatches,
        writes: Writes,
        snapshots: Snapshots,
        pods: GatewayPods,
        fence: Fence,
        clock: Callable[[], datetime],
    ) -> None:
        self._kubernetes = kubernetes
        self._cache = cache
        self._queue = queue
        self._places = places
        self._writes = writes
        self._snapshots = snapshots
        self._pods = pods
        self._fence = fence
        self._clock = clock
        self._states: dict[Key, _State] = {}
        self._seen: dict[Key, int] = {}
        """The highest sequence that any pod of a gateway has had: a new one must be above it, even when the ConfigMap is lost."""

    async def run(self, group: Key, _: Sequence[Key]) -> None:
        """What the engine calls, whichever of the gateway's resources are due: a snapshot is always made of all of them."""
        try:
            await (self._publish(group) if group.kind == GATEWAY else self._report(Key(GATEWAY, group.namespace, group.name)))
        except (ApiError, Stale) as error:
            RECONCILE_ERRORS.labels(KIND).inc()
            RECONCILES.labels(KIND, "error").inc()
            log.warning("the gateway's pass comes again", extra={"gateway": group.path, "half": group.kind, "error": str(error)})
            self._queue.retry(group, group)

    def _routes(self, gateway: Key) -> list[Resource]:
        return [resource for key in self._cache.served_by(gateway) if (resource := self._cache.get(key)) is not None]

    async def _publish(self, gateway: Key) -> None:
        since = self._places.changed.pop(gateway, None)
        routes = self._routes(gateway)
        if not routes and gateway not in self._states:
            return
        compiled = compile_snapshot(gateway.name, routes, self._places.of(gateway.namespace))
        state = self._states.get(gateway)
        now = int(self._clock().timestamp() * 1000)
        size = len(compiled.document(now))
        if size > MAX_BYTES:
            SNAPSHOTS.labels("too_large").inc()
            log.error("the snapshot is too large; the last one stays", extra={"gateway": gateway.path, "bytes": size, "most": MAX_BYTES})
            published = Published(*(state.published.revision, state.published.sequence) if state else ("", 0), too_large=size)
        else:
            published = await self._store(gateway, compiled, max(now, self._seen.get(gateway, 0) + 1))
            self._snapshots.publish(gateway, compiled.document(published.sequence), published.revision, published.sequence)
        if since is not None:
            SNAPSHOT_SECONDS.observe(time.monotonic() - since)
        self._states[gateway] = _State(compiled, published, time.monotonic())
        self._queue.forget(gateway)
        self._queue.add(status_of(gateway), status_of(gateway), Lane.SPEC)

    async def _store(self, gateway: Key, compiled: Compiled, at_least: int) -> Published:
        """Into the ConfigMap, unless it says the same already. Raises ApiError."""
        base = f"/api/v1/namespaces/{gateway.namespace}/configmaps"
        name = f"caravan-routing-{gateway.name}"
        try:
            found: dict[str, Any] | None = await self._kubernetes.get(f"{base}/{name}")
        except ApiError as error:
            if error.status != 404:
                raise
            found = None
        before = read(((found or {}).get("data") or {}).get(FILE, ""))
        if before is not None and before[0] == compiled.revision:
            SNAPSHOTS.labels("unchanged").inc()
            return Published(*before)
        sequence = max(at_least, before[1] + 1 if before else 0)
        body = found or {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": gateway.namespace, "labels": {"app.kubernetes.io/managed-by": "caravan-operator"}},
        }
        body["data"] = {FILE: compiled.document(sequence).decode()}
        self._fence()
        await self._kubernetes.request("PUT" if found else "POST", f"{base}/{name}" if found else base, body)
        SNAPSHOTS.labels("written").inc()
        log.info("snapshot published", extra={"gateway": gateway.path, "sequence": sequence, "revision": compiled.revision})
        return Published(compiled.revision, sequence)

    async def _report(self, gateway: Key) -> None:
        state = self._states.get(gateway)
        if state is None:
            return
        group = status_of(gateway)
        pods = await self._ask(gateway)
        self._seen[gateway] = max([self._seen.get(gateway, 0), *(pod.sequence or 0 for pod in pods)])
        behind = [pod for pod in pods if (pod.sequence or 0) < state.published.sequence]
        if behind and time.monotonic() - state.at < GRACE:
            self._queue.add(group, group, Lane.SPEC, LOOK_AGAIN)
            return
        limit = asyncio.Semaphore(WRITERS)
        await asyncio.gather(*(self._write(limit, resource, state, pods) for resource in self._routes(gateway)))
        if behind:
            self._queue.retry(group, group)
        else:
            self._queue.forget(group)

    async def _ask(self, gateway: Key) -> list[Pod]:
        """The pods of the gateway's Service that are not on their way out, ready or not."""
        places = self._places.of(gateway.namespace)
        service = places.service(gateway.name)
        if service is None:
            return []
        # A gateway with a port of its own for probes answers there alone.
        port = next((found for name in ("probes", None, "http") if (found := service.port(name)) is not None), None)
        if port is None:
            return []
        return await self._pods.revisions([each for each in places.endpoints(service, port) if not each.terminating])

    async def _write(self, limit: asyncio.Semaphore, resource: Resource, state: _State, pods: list[Pod]) -> None:
        verdict = state.compiled.verdicts.get(resource.key)
        if verdict is None or resource.deleted is not None:
            return
        condition, facts = programmed(resource, verdict, state.published, [(pod.name, pod.revision, pod.sequence) for pod in pods])
        async with limit:
            try:
                await self._writes.status(resource, [*verdict.conditions, condition], facts)
                RECONCILES.labels(KIND, "success").inc()
            except Stale:
                gateway = self._cache.connection_of(resource)
                self._queue.add(gateway, gateway, Lane.RETRY)
