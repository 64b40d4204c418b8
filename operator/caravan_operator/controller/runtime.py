"""Puts the parts together and runs them: first the Lease, then the watches and the workers. Whatever ends, ends the
process.
"""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import kopf

from caravan_operator.backends.gateway import GatewayPods
from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connections import Connections
from caravan_operator.controller.deletions import Deletions
from caravan_operator.controller.endpoint_watches import GATEWAY, GATEWAY_STATUS, EndpointWatches
from caravan_operator.controller.gateway_reconciler import GatewayReconciler
from caravan_operator.controller.initial_sync import InitialSync
from caravan_operator.controller.lease import Lease, LeaseLost
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.controller.probes import Health, Probes
from caravan_operator.controller.queue import WorkQueue
from caravan_operator.controller.reconciler import Reconciler
from caravan_operator.controller.snapshot_server import SnapshotServer
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.controller.watch_verifier import WatchVerifier
from caravan_operator.controller.watches import ResourceWatches, select_namespaces
from caravan_operator.controller.workers import Workers
from caravan_operator.resources.resource import Key

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    namespaces: tuple[str, ...]
    """Served namespaces; empty: all of them."""
    own_namespace: str
    """Where the Lease is."""
    port: int
    snapshots_port: int
    """Where gateways ask for their snapshot."""
    sweep_seconds: float
    """Seconds between two looks at everything."""
    deletion_wait_seconds: float
    lease_seconds: float
    """Seconds after which a silent leader is replaced."""


async def run_operator(options: Options) -> None:
    """Until SIGTERM. Raises what ended it otherwise; LeaseLost ends the process on the spot."""
    health = Health()
    probes = Probes(health, options.port)
    snapshot_server = SnapshotServer(options.snapshots_port, lambda: health.is_leading)
    kubernetes = Kubernetes()
    identity = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    lease = Lease(kubernetes, options.own_namespace, identity, duration=options.lease_seconds)
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    await probes.start()
    await snapshot_server.start()
    try:
        log.info("waiting for the Lease", extra={"identity": identity, "namespace": options.own_namespace})
        if not await _finish_before_stop(stop, lease.acquire()):
            return
        log.info("leading", extra={"identity": identity, "namespaces": options.namespaces or "all"})
        await _run_as_leader(options, health, kubernetes, lease, identity, stop, snapshot_server)
    except Exception:
        log.exception("ending: what serves the resources has failed")
        raise SystemExit(1) from None
    finally:
        await lease.release()
        await kubernetes.close()
        await snapshot_server.stop()
        await probes.stop()


async def _run_as_leader(
    options: Options,
    health: Health,
    kubernetes: Kubernetes,
    lease: Lease,
    identity: str,
    stop: asyncio.Event,
    snapshot_server: SnapshotServer,
) -> None:
    cache, queue = ResourceCache(), WorkQueue()
    connections = Connections(kubernetes, lease.ensure_held)
    namespace_labels = NamespaceLabels(kubernetes)
    status_writer = StatusWriter(kubernetes, cache, lease.ensure_held, _get_utc_now, identity)
    deletions = Deletions(
        cache,
        queue,
        connections,
        namespace_labels,
        status_writer,
        _get_utc_now,
        timedelta(seconds=options.deletion_wait_seconds),
    )
    reconciler = Reconciler(cache, queue, connections, namespace_labels, status_writer, deletions)
    initial_sync = InitialSync(kubernetes, options.namespaces)
    endpoint_watches, pods = EndpointWatches(cache, queue, initial_sync), GatewayPods()
    gateway_reconciler = GatewayReconciler(
        kubernetes,
        cache,
        queue,
        endpoint_watches,
        status_writer,
        snapshot_server,
        pods,
        lease.ensure_held,
        _get_utc_now,
    )

    async def run_batch(group: Key, keys: Sequence[Key]) -> None:
        await (gateway_reconciler.run if group.kind in (GATEWAY, GATEWAY_STATUS) else reconciler.run)(group, keys)

    workers = Workers(cache, queue, run_batch, sweep_seconds=options.sweep_seconds)
    watches = ResourceWatches(cache, queue, initial_sync)
    registry = watches.build_registry()
    endpoint_watches.register_handlers(registry)
    watch_verifier = WatchVerifier(kubernetes, cache, options.namespaces)
    health.get_batch_age, health.get_queue_age = workers.get_oldest_batch_age, queue.measure_oldest
    health.is_stale, health.is_synced, health.is_leading = (
        lambda: watch_verifier.is_stale,
        lambda: initial_sync.is_complete,
        True,
    )

    async def run_workers() -> None:
        await initial_sync.wait_until_complete()
        log.info("initial sync complete", extra={"resources": len(cache)})
        health.get_heartbeat = lambda: workers.heartbeat_at
        await workers.run()

    stop_flag = asyncio.Event()
    kopf_operator = kopf.operator(
        registry=registry, standalone=True, stop_flag=stop_flag, **select_namespaces(options.namespaces)
    )
    tasks = [
        asyncio.create_task(each)
        for each in (
            run_workers(),
            lease.renew_until_lost(),
            watch_verifier.run(),
            _close_deleted_connections(watches, connections),
            kopf_operator,
        )
    ]
    stop_task = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stop_task], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stop_task}:
            if isinstance(error := task.exception(), LeaseLost):
                _exit_now(error)
            # kopf takes the signals for itself and returns then; everything else only ends by an exception
            task.result()
    finally:
        stop_flag.set()
        for task in [*tasks[:-1], stop_task]:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*tasks, return_exceptions=True)
        await status_writer.close()
        await connections.close()
        await pods.close()


def _exit_now(error: LeaseLost) -> None:
    """Without the orderly stop: another process may be writing by now."""
    log.error("the Lease is lost; ending without another write", extra={"error": str(error)})
    logging.shutdown()
    os._exit(1)


async def _close_deleted_connections(watches: ResourceWatches, connections: Connections) -> None:
    """Close the clients of connections that are gone."""
    while True:
        while watches.deleted_connections:
            await connections.drop_connection(watches.deleted_connections.pop())
        await asyncio.sleep(1)


async def _finish_before_stop(stop: asyncio.Event, awaitable: Awaitable[None]) -> bool:
    """Whether the work was done before the stop."""
    work_task, stop_task = asyncio.ensure_future(awaitable), asyncio.ensure_future(stop.wait())
    await asyncio.wait([work_task, stop_task], return_when=asyncio.FIRST_COMPLETED)
    for task in (work_task, stop_task):
        task.cancel()
    return work_task.done() and not work_task.cancelled() and work_task.exception() is None


def _get_utc_now() -> datetime:
    return datetime.now(UTC)
