"""Puts the parts together and runs them: first the Lease, then the watches and the workers. Whatever ends, ends the process."""

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
from caravan_operator.handlers.arrivals import Arrivals
from caravan_operator.handlers.audit import Audit
from caravan_operator.handlers.batch import Batch
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.connections import Connections
from caravan_operator.handlers.endings import Endings
from caravan_operator.handlers.engine import Engine
from caravan_operator.handlers.gateways import Gateways
from caravan_operator.handlers.lease import Lease, LeaseLost
from caravan_operator.handlers.namespaces import Namespaces
from caravan_operator.handlers.places import GATEWAY, GATEWAY_STATUS, PlaceWatches
from caravan_operator.handlers.probes import Health, Probes
from caravan_operator.handlers.queue import WorkQueue
from caravan_operator.handlers.snapshots import Snapshots
from caravan_operator.handlers.watches import Watches, namespaces
from caravan_operator.handlers.writes import Writes
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
    sweep: float
    """Seconds between two looks at everything."""
    deletion_wait: float
    lease: float
    """Seconds after which a silent leader is replaced."""


async def operate(options: Options) -> None:
    """Until SIGTERM. Raises what ended it otherwise; LeaseLost ends the process on the spot."""
    health = Health()
    probes = Probes(health, options.port)
    snapshots = Snapshots(options.snapshots_port, lambda: health.leading)
    kubernetes = Kubernetes()
    identity = f"{socket.gethostname()}-{uuid4().hex[:8]}"
    lease = Lease(kubernetes, options.own_namespace, identity, duration=options.lease)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await probes.start()
    await snapshots.start()
    try:
        log.info("waiting for the Lease", extra={"identity": identity, "namespace": options.own_namespace})
        if not await _first(stop, lease.acquire()):
            return
        log.info("leading", extra={"identity": identity, "namespaces": options.namespaces or "all"})
        await _lead(options, health, kubernetes, lease, identity, stop, snapshots)
    except Exception:
        log.exception("ending: what serves the resources has failed")
        raise SystemExit(1) from None
    finally:
        await lease.release()
        await kubernetes.close()
        await snapshots.stop()
        await probes.stop()


async def _lead(
    options: Options, health: Health, kubernetes: Kubernetes, lease: Lease, identity: str, stop: asyncio.Event, snapshots: Snapshots
) -> None:
    cache, queue = Cache(), WorkQueue()
    connections = Connections(kubernetes, lease.fence)
    known = Namespaces(kubernetes)
    writes = Writes(kubernetes, cache, lease.fence, _now, identity)
    endings = Endings(cache, queue, connections, known, writes, _now, timedelta(seconds=options.deletion_wait))
    batch = Batch(cache, queue, connections, known, writes, endings)
    arrivals = Arrivals(kubernetes, options.namespaces)
    places, pods = PlaceWatches(cache, queue, arrivals), GatewayPods()
    gateways = Gateways(kubernetes, cache, queue, places, writes, snapshots, pods, lease.fence, _now)

    async def run(group: Key, keys: Sequence[Key]) -> None:
        await (gateways.run if group.kind in (GATEWAY, GATEWAY_STATUS) else batch.run)(group, keys)

    engine = Engine(cache, queue, run, period=options.sweep)
    watches = Watches(cache, queue, arrivals)
    registry = watches.registry()
    places.register(registry)
    audit = Audit(kubernetes, cache, options.namespaces)
    health.batch_age, health.queue_age = engine.oldest_batch, queue.oldest
    health.deaf, health.complete, health.leading = lambda: audit.deaf, lambda: arrivals.complete, True

    async def work() -> None:
        await arrivals.wait()
        log.info("everything has been seen", extra={"resources": len(cache)})
        health.beat = lambda: engine.beat
        await engine.serve()

    ending = asyncio.Event()
    watching = kopf.operator(registry=registry, standalone=True, stop_flag=ending, **namespaces(options.namespaces))
    tasks = [asyncio.create_task(each) for each in (work(), lease.keep(), audit.watch(), _forget(watches, connections), watching)]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            if isinstance(error := task.exception(), LeaseLost):
                _end_now(error)
            task.result()  # kopf takes the signals for itself and returns then; everything else only ends by an exception
    finally:
        ending.set()
        for task in [*tasks[:-1], stopping]:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await asyncio.gather(*tasks, return_exceptions=True)
        await writes.close()
        await connections.close()
        await pods.close()


def _end_now(error: LeaseLost) -> None:
    """Without the orderly stop: another process may be writing by now."""
    log.error("the Lease is lost; ending without another write", extra={"error": str(error)})
    logging.shutdown()
    os._exit(1)


async def _forget(watches: Watches, connections: Connections) -> None:
    """Close the clients of connections that are gone."""
    while True:
        while watches.gone:
            await connections.forget(watches.gone.pop())
        await asyncio.sleep(1)


async def _first(stop: asyncio.Event, work: Awaitable[None]) -> bool:
    """Whether the work was done before the stop."""
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    await asyncio.wait([working, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (working, stopping):
        task.cancel()
    return working.done() and not working.cancelled() and working.exception() is None


def _now() -> datetime:
    return datetime.now(UTC)
