"""Resources that are being deleted: deal with the object as the policy says, then let the resource go."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from caravan_operator.backends.broker import BrokerAway, Refused, deadline
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.handlers.cache import Cache
from caravan_operator.handlers.connections import Connections
from caravan_operator.handlers.namespaces import Namespaces
from caravan_operator.handlers.queue import Lane, WorkQueue
from caravan_operator.handlers.writes import Stale, Writes
from caravan_operator.reconcile import RULES, read
from caravan_operator.reconcile.deletion import Ending, overdue, remove, settled
from caravan_operator.reconcile.gate import forbidden
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, PAUSED, Condition
from caravan_operator.status.document import Event
from caravan_operator.status.metrics import RECONCILES, WRITES
from caravan_operator.status.reasons import Reason

log = logging.getLogger(__name__)
LONGEST_PASS = 150.0
"""Seconds for the deletions of a batch, however slowly each request is answered."""


class Endings:
    def __init__(
        self,
        cache: Cache,
        queue: WorkQueue,
        connections: Connections,
        namespaces: Namespaces,
        writes: Writes,
        clock: Callable[[], datetime],
        wait: timedelta,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._namespaces = namespaces
        self._writes = writes
        self._clock = clock
        self._wait = wait

    async def run(self, connection: Resource | None, going: Sequence[Resource]) -> None:
        """Bindings before queues before exchanges: the other way round from how they are made."""
        asking = []
        for resource in going:
            ending = await self._settled(resource, connection)
            if ending is None:
                asking.append(resource)
            else:
                await self._carry_out(resource, ending)
        if connection is None or not asking:
            return
        for kind in reversed(KINDS):
            same = [resource for resource in asking if resource.key.kind == kind]
            if same:
                await self._ask(kind, same, connection)

    async def _settled(self, resource: Resource, connection: Resource | None) -> Ending | None:
        others = [other for other in self._cache.rivals_of(resource) if other.deleted is None]
        refused = None
        try:
            read(resource)
        except UnusableSpec as error:
            refused = Condition(ACCEPTED, False, Reason.INVALID, str(error))
            return settled(resource, connection, None, refused, self._wait, self._clock())
        if connection is not None:
            refused = forbidden(resource, connection, await self._namespaces.labels(resource, connection))
            if refused is None and connection.paused:
                refused = Condition(PAUSED, True, Reason.CONNECTION_PAUSED, f"connection {connection.key.path} is paused")
        return settled(resource, connection, others[0] if others else None, refused, self._wait, self._clock())

    async def _ask(self, kind: str, going: list[Resource], connection: Resource) -> None:
        rules = RULES[kind]
        wanted = [rules.wanted(resource) for resource in going]
        now = self._clock()
        try:
            async with deadline(LONGEST_PASS):
                broker = (await self._connections.open(connection)).broker
                states = await broker.observe(kind, wanted, usage=any(each.spec["deletionPolicy"] == "DeleteIfUnused" for each in going))
                endings = [
                    overdue(each, state.message, self._wait, now)
                    if isinstance(state, Refused)
                    else remove(each, rules.removal(want, state), self._wait, now)
                    for each, want, state in zip(going, wanted, states, strict=True)
                ]
                answers = await broker.apply([ending.actions for ending in endings])
        except BrokerAway as error:
            self._queue.add(connection.key, connection.key, Lane.RETRY, self._connections.failed(connection.key, error))
            for resource in going:
                await self._carry_out(resource, overdue(resource, str(error), self._wait, now))
            return
        for resource, ending, refused in zip(going, endings, answers, strict=True):
            if refused is not None:
                await self._carry_out(resource, overdue(resource, refused.message, self._wait, now))
            elif ending.actions:
                told = "; ".join(action.line for action in ending.actions)
                WRITES.labels(kind, "delete").inc()
                log.info("deleted", extra={"key": resource.key.path, "kind": kind, "action": told})
                await self._carry_out(resource, Ending(finish=True, events=(Event(Reason.DELETED, told),)))
            else:
                await self._carry_out(resource, ending)

    async def _carry_out(self, resource: Resource, ending: Ending) -> None:
        try:
            if ending.finish:
                await self._writes.finalizer(resource, wanted=False)
                for event in ending.events:
                    self._writes.event(resource, event)
                RECONCILES.labels(resource.key.kind, "success").inc()
                self._queue.forget(resource.key)
                return
            if ending.conditions:
                await self._writes.status(resource, ending.conditions, {})
        except (Stale, ApiError) as error:
            log.debug("not written", extra={"key": resource.key.path, "error": str(error)})
        if ending.conditions or resource.finalized:
            self._queue.retry(resource.key, self._cache.connection_of(resource))
