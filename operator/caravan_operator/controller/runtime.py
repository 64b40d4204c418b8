"""The operator's process: probes and the snapshot server from the start, and the leader once it holds the Lease.
When any part ends, the process ends.
"""

import asyncio
import logging
import signal
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from uuid import uuid4

from caravan_operator.backends.kubernetes import Kubernetes
from caravan_operator.controller.leader import Leader, LeaderOptions
from caravan_operator.controller.lease import Lease
from caravan_operator.controller.probes import Health, Probes
from caravan_operator.controller.snapshot_server import SnapshotServer

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
    """Seconds between two passes over everything."""
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
        leader_options = LeaderOptions(
            options.namespaces, options.sweep_seconds, options.deletion_wait_seconds, identity
        )
        await Leader(leader_options, health, kubernetes, lease, snapshot_server).run(stop)
    except Exception:
        log.exception("ending: what serves the resources has failed")
        raise SystemExit(1) from None
    finally:
        await lease.release()
        await kubernetes.close()
        await snapshot_server.stop()
        await probes.stop()


async def _finish_before_stop(stop: asyncio.Event, awaitable: Awaitable[None]) -> bool:
    """Whether the work was done before the stop."""
    work_task, stop_task = asyncio.ensure_future(awaitable), asyncio.ensure_future(stop.wait())
    await asyncio.wait([work_task, stop_task], return_when=asyncio.FIRST_COMPLETED)
    for task in (work_task, stop_task):
        task.cancel()
    return work_task.done() and not work_task.cancelled() and work_task.exception() is None
