"""Two passes over a gateway that don't wait for each other: one compiles and publishes its routing snapshot, the other
asks its pods which revision they have and reports that on its ServiceRoutes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from caravan_operator.backends.gateway import GatewayPod, GatewayPods
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.endpoint_watches import GATEWAY, EndpointWatches, get_status_key
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.reporter import Reporter
from caravan_operator.controller.resource_writer import StaleResource
from caravan_operator.controller.snapshot_server import SnapshotServer
from caravan_operator.controller.snapshot_store import SnapshotStore
from caravan_operator.reconcile.programmed_status import PublishedSnapshot, build_programmed_status
from caravan_operator.reconcile.service_route import MAX_BYTES, CompiledSnapshot, compile_snapshot
from caravan_operator.resources.resource import Key, Resource

log = logging.getLogger(__name__)
KIND = "ServiceRoute"
GRACE_SECONDS, RECHECK_SECONDS = 2.0, 0.1
"""Seconds that gateways have to take a snapshot before the status says that they haven't, and until they are asked
again in this time.
"""
MAX_WRITES = 8


@dataclass(slots=True)
class _State:
    compiled: CompiledSnapshot
    published: PublishedSnapshot
    published_at: float


class GatewayReconciler:
    def __init__(
        self,
        cache: ResourceCache,
        queue: WorkQueue,
        endpoint_watches: EndpointWatches,
        reporter: Reporter,
        snapshot_store: SnapshotStore,
        snapshot_server: SnapshotServer,
        pods: GatewayPods,
        clock: Callable[[], datetime],
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._endpoint_watches = endpoint_watches
        self._reporter = reporter
        self._snapshot_store = snapshot_store
        self._snapshot_server = snapshot_server
        self._pods = pods
        self._clock = clock
        self._states: dict[Key, _State] = {}
        self._max_sequences: dict[Key, int] = {}
        """The highest sequence that any pod of a gateway has had: a new one must be above it, even when the ConfigMap
        is lost.
        """

    async def run(self, group: Key, _: Sequence[Key]) -> None:
        """One pass, whichever of the gateway's resources are due: a snapshot always holds all of them."""
        try:
            await (
                self._publish_snapshot(group)
                if group.kind == GATEWAY
                else self._report_status(Key(GATEWAY, group.namespace, group.name))
            )
        except (ApiError, StaleResource) as error:
            self._reporter.count_gateway_failure(KIND)
            log.warning(
                "the gateway's pass comes again",
                extra={"gateway": group.namespaced_name, "kind": group.kind, "error": str(error)},
            )
            self._queue.retry(group, group)

    def _list_routes(self, gateway: Key) -> list[Resource]:
        return [resource for key in self._cache.list_served(gateway) if (resource := self._cache.get(key)) is not None]

    async def _publish_snapshot(self, gateway: Key) -> None:
        changed_at = self._endpoint_watches.changed_at.pop(gateway, None)
        routes = self._list_routes(gateway)
        if not routes and gateway not in self._states:
            return
        compiled = compile_snapshot(gateway.name, routes, self._endpoint_watches.get_index(gateway.namespace))
        state = self._states.get(gateway)
        now = int(self._clock().timestamp() * 1000)
        size = len(compiled.render_document(now))
        if size > MAX_BYTES:
            self._reporter.count_snapshot("too_large")
            log.error(
                "the snapshot is too large; the last one stays",
                extra={"gateway": gateway.namespaced_name, "bytes": size, "most": MAX_BYTES},
            )
            published = PublishedSnapshot(
                *(state.published.revision, state.published.sequence) if state else ("", 0), oversize_bytes=size
            )
        else:
            min_sequence = max(now, self._max_sequences.get(gateway, 0) + 1)
            published, is_written = await self._snapshot_store.store_snapshot(gateway, compiled, min_sequence)
            self._reporter.count_snapshot("written" if is_written else "unchanged")
            self._snapshot_server.publish(
                gateway, compiled.render_document(published.sequence), published.revision, published.sequence
            )
        if changed_at is not None:
            self._reporter.observe_snapshot_delay(time.monotonic() - changed_at)
        self._states[gateway] = _State(compiled, published, time.monotonic())
        self._queue.reset_attempts(gateway)
        self._queue.add(get_status_key(gateway), get_status_key(gateway), Priority.SPEC)

    async def _report_status(self, gateway: Key) -> None:
        state = self._states.get(gateway)
        if state is None:
            return
        group = get_status_key(gateway)
        pods = await self._fetch_pods(gateway)
        self._max_sequences[gateway] = max([self._max_sequences.get(gateway, 0), *(pod.sequence or 0 for pod in pods)])
        lagging_pods = [pod for pod in pods if (pod.sequence or 0) < state.published.sequence]
        if lagging_pods and time.monotonic() - state.published_at < GRACE_SECONDS:
            self._queue.add(group, group, Priority.SPEC, RECHECK_SECONDS)
            return
        limit = asyncio.Semaphore(MAX_WRITES)
        await asyncio.gather(
            *(self._write_route_status(limit, resource, state, pods) for resource in self._list_routes(gateway))
        )
        if lagging_pods:
            self._queue.retry(group, group)
        else:
            self._queue.reset_attempts(group)

    async def _fetch_pods(self, gateway: Key) -> list[GatewayPod]:
        """The pods of the gateway's Service that are not on their way out, ready or not."""
        endpoint_index = self._endpoint_watches.get_index(gateway.namespace)
        service = endpoint_index.get_service(gateway.name)
        if service is None:
            return []
        # A gateway with a port of its own for probes answers there alone.
        port = next(
            (port_name for name in ("probes", None, "http") if (port_name := service.find_port(name)) is not None), None
        )
        if port is None:
            return []
        return await self._pods.fetch_revisions(
            [each for each in endpoint_index.list_endpoints(service, port) if not each.terminating]
        )

    async def _write_route_status(
        self, limit: asyncio.Semaphore, resource: Resource, state: _State, pods: list[GatewayPod]
    ) -> None:
        route_status = state.compiled.route_statuses.get(resource.key)
        if route_status is None or resource.deleted_at is not None:
            return
        condition, status_fields = build_programmed_status(
            resource, route_status, state.published, [(pod.name, pod.revision, pod.sequence) for pod in pods]
        )
        async with limit:
            try:
                await self._reporter.publish_route(resource, [*route_status.conditions, condition], status_fields)
            except StaleResource:
                gateway = self._cache.get_connection_key(resource)
                self._queue.add(gateway, gateway, Priority.RETRY)
