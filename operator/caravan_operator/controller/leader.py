"""Puts together all that only the leader runs, and runs it: the watches that fill cache and queue, the workers that
call the reconcilers, the Lease's renewal. `runtime.py` makes one when this process has the Lease.
"""

import asyncio
import logging
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import kopf

from caravan_operator.backends.gateway import GatewayPods
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connection_reconciler import ConnectionReconciler
from caravan_operator.controller.connections import Connections
from caravan_operator.controller.deletions import Deletions
from caravan_operator.controller.endpoint_watches import GATEWAY, GATEWAY_STATUS, EndpointWatches
from caravan_operator.controller.gateway_reconciler import GatewayReconciler
from caravan_operator.controller.initial_sync import InitialSync
from caravan_operator.controller.lease import Lease, LeaseLost
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.controller.probes import Health
from caravan_operator.controller.queue import WorkQueue
from caravan_operator.controller.reconciler import Reconciler
from caravan_operator.controller.reporter import Reporter
from caravan_operator.controller.resource_writer import ResourceWriter
from caravan_operator.controller.snapshot_server import SnapshotServer
from caravan_operator.controller.snapshot_store import SnapshotStore
from caravan_operator.controller.stages.admit import Admission
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.controller.watch_verifier import WatchVerifier
from caravan_operator.controller.watches import ResourceWatches, select_namespaces
from caravan_operator.controller.workers import Workers
from caravan_operator.resources.resource import Key

log = logging.getLogger(__name__)
STOP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class LeaderOptions:
    namespaces: tuple[str, ...]
    """Served namespaces; empty: all of them."""
    sweep_seconds: float
    """Seconds between two passes over everything."""
    deletion_wait_seconds: float
    identity: str
    """Names this process in Events."""


class Leader:
    def __init__(
        self,
        options: LeaderOptions,
        health: Health,
        kubernetes: Kubernetes,
        lease: Lease,
        snapshot_server: SnapshotServer,
    ) -> None:
        self._options = options
        self._health = health
        self._lease = lease
        self._cache, self._queue = ResourceCache(), WorkQueue()
        self._connections, self._pods = Connections(kubernetes, lease.ensure_held), GatewayPods()
        resource_writer = ResourceWriter(kubernetes, self._cache, lease.ensure_held)
        self._status_writer = StatusWriter(kubernetes, resource_writer, _get_utc_now, options.identity)
        reporter = Reporter(resource_writer, self._status_writer)
        self._initial_sync = InitialSync(kubernetes, options.namespaces)
        self._watches = ResourceWatches(self._cache, self._queue, self._initial_sync)
        self._endpoint_watches = EndpointWatches(self._cache, self._queue, self._initial_sync)
        self._watch_verifier = WatchVerifier(kubernetes, self._cache, options.namespaces)
        self._reconciler = self._build_reconciler(NamespaceLabels(kubernetes), resource_writer, reporter)
        self._gateway_reconciler = GatewayReconciler(
            self._cache,
            self._queue,
            self._endpoint_watches,
            reporter,
            SnapshotStore(kubernetes, lease.ensure_held),
            snapshot_server,
            self._pods,
            _get_utc_now,
        )
        self._workers = Workers(self._cache, self._queue, self._run_batch, sweep_seconds=options.sweep_seconds)

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises what ended it otherwise; LeaseLost ends the process on the spot."""
        self._register_health()
        stop_kopf = asyncio.Event()
        kopf_task = asyncio.create_task(self._run_kopf(stop_kopf))
        stop_task = asyncio.create_task(stop.wait())
        own_tasks = [
            asyncio.create_task(each)
            for each in (
                self._run_workers(),
                self._lease.renew_until_lost(),
                self._watch_verifier.run(),
                self._close_deleted_connections(),
            )
        ]
        try:
            done, _ = await asyncio.wait([*own_tasks, kopf_task, stop_task], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stop_task}:
                if isinstance(error := task.exception(), LeaseLost):
                    _exit_now(error)
                # kopf takes the signals for itself and returns then; everything else only ends by an exception
                task.result()
        finally:
            stop_kopf.set()
            for task in [*own_tasks, stop_task]:
                task.cancel()
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await asyncio.gather(*own_tasks, kopf_task, return_exceptions=True)
            await self._status_writer.close()
            await self._connections.close()
            await self._pods.close()

    def _build_reconciler(
        self, namespace_labels: NamespaceLabels, resource_writer: ResourceWriter, reporter: Reporter
    ) -> Reconciler:
        deletions = Deletions(
            self._cache,
            self._queue,
            self._connections,
            namespace_labels,
            reporter,
            _get_utc_now,
            timedelta(seconds=self._options.deletion_wait_seconds),
        )
        return Reconciler(
            self._cache,
            self._queue,
            self._connections,
            Admission(self._cache, namespace_labels),
            resource_writer,
            reporter,
            ConnectionReconciler(self._cache, self._queue, self._connections, reporter),
            deletions,
        )

    def _register_health(self) -> None:
        """Let the probes look at what runs from now on; the workers' heartbeat counts once they have begun."""
        health = self._health
        health.get_batch_age, health.get_queue_age = self._workers.get_oldest_batch_age, self._queue.measure_oldest
        health.is_stale = lambda: self._watch_verifier.is_stale
        health.is_synced = lambda: self._initial_sync.is_complete
        health.is_leading = True

    async def _run_batch(self, group: Key, keys: Sequence[Key]) -> None:
        if group.kind in (GATEWAY, GATEWAY_STATUS):
            await self._gateway_reconciler.run(group, keys)
        else:
            await self._reconciler.run(group, keys)

    async def _run_workers(self) -> None:
        await self._initial_sync.wait_until_complete()
        log.info("initial sync complete", extra={"resources": len(self._cache)})
        self._health.get_heartbeat = lambda: self._workers.heartbeat_at
        await self._workers.run()

    async def _run_kopf(self, stop_kopf: asyncio.Event) -> None:
        registry = self._watches.build_registry()
        self._endpoint_watches.register_handlers(registry)
        namespaces = select_namespaces(self._options.namespaces)
        await kopf.operator(registry=registry, standalone=True, stop_flag=stop_kopf, **namespaces)

    async def _close_deleted_connections(self) -> None:
        """Close the clients of connections that were deleted."""
        while True:
            while self._watches.deleted_connections:
                await self._connections.drop_connection(self._watches.deleted_connections.pop())
            await asyncio.sleep(1)


def _exit_now(error: LeaseLost) -> None:
    """Without the orderly stop: another process may be writing by now."""
    log.error("the Lease is lost; ending without another write", extra={"error": str(error)})
    logging.shutdown()
    os._exit(1)


def _get_utc_now() -> datetime:
    return datetime.now(UTC)
