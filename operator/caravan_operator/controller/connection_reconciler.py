"""The pass over a connection itself: ask its broker who it is, report that, and wake what it serves when it is ready
again. The reconciler calls it before it looks at the connection's resources.
"""

from caravan_operator.backends.broker import BrokerUnavailable, limit_seconds
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connections import Connections
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.report import PassResult, Report
from caravan_operator.controller.reporter import Reporter
from caravan_operator.reconcile.admission import validate_connection
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, PAUSED, SYNCED, Condition
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event

MAX_CHECK_SECONDS = 120.0
"""Seconds for the check, however slowly each request is answered."""


class ConnectionReconciler:
    def __init__(self, cache: ResourceCache, queue: WorkQueue, connections: Connections, reporter: Reporter) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._reporter = reporter

    async def run(self, connection: Resource) -> None:
        """One pass; what its broker answers or fails to answer ends in the connection's status."""
        if connection.is_paused:
            paused = Condition(PAUSED, True, Reason.PAUSED, "nothing that it serves is changed")
            await self._publish_report(Report(connection, PassResult.SUCCESS, (paused,)))
        elif (invalid := validate_connection(connection)) is not None:
            synced = Condition(SYNCED, None, invalid.reason, invalid.message)
            await self._publish_report(Report(connection, PassResult.SUCCESS, (invalid, synced)))
        else:
            await self._check_broker(connection)

    async def _check_broker(self, connection: Resource) -> None:
        name = connection.key
        try:
            async with limit_seconds(MAX_CHECK_SECONDS):
                client, broker_fields = await self._connections.check_broker(connection)
        except BrokerUnavailable as error:
            pause = self._connections.record_failure(name, error)
            await self._publish_report(_build_failure_report(connection, error))
            self._queue.add(name, name, Priority.RETRY, pause)
            return
        was_open = self._connections.record_success(name)
        await self._publish_report(
            _build_success_report(connection, {**broker_fields, "connectionHash": client.fingerprint})
        )
        ready = connection.get_condition(CONNECTION_READY)
        if was_open or ready is None or ready["status"] != "True":
            for key in self._cache.list_served(name):
                self._queue.add(key, name, Priority.RETRY)

    async def _publish_report(self, report: Report) -> None:
        if not await self._reporter.publish(report):
            self._queue.retry(report.resource.key, report.resource.key)


def _build_failure_report(connection: Resource, error: BrokerUnavailable) -> Report:
    conditions = (
        Condition(CONNECTION_READY, False, error.reason, str(error)),
        Condition(SYNCED, None, error.reason, str(error)),
    )
    return Report(connection, PassResult.SUCCESS, conditions, {"reachable": False, "circuit": "Open"})


def _build_success_report(connection: Resource, status_fields: dict[str, str]) -> Report:
    conditions = [
        Condition(ACCEPTED, True, Reason.ACCEPTED),
        Condition(CONNECTION_READY, True, Reason.REACHABLE),
        Condition(SYNCED, True, Reason.IN_SYNC),
    ]
    if connection.get_condition(PAUSED):
        conditions.append(Condition(PAUSED, False, Reason.RUNNING))
    is_same_spec = connection.status.get("observedGeneration") == connection.generation
    known_hashes = (None, status_fields["connectionHash"])
    is_rotated = is_same_spec and connection.status.get("connectionHash") not in known_hashes
    return Report(
        connection,
        PassResult.SUCCESS,
        tuple(conditions),
        {**status_fields, "reachable": True, "circuit": "Closed"},
        (Event(Reason.CREDENTIALS_ROTATED, "the new credentials are in use"),) if is_rotated else (),
    )
