"""Resources that are being deleted: deal with the object as the policy says, then let the resource go."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from caravan_operator.backends.broker import BrokerUnavailable, Refusal, limit_seconds
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connections import Connections
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.status_writer import StaleResource, StatusWriter
from caravan_operator.reconcile import RULES, parse_desired
from caravan_operator.reconcile.admission import check_permission
from caravan_operator.reconcile.deletion import DeletionDecision, decide_removal, decide_without_broker, wait_or_retain
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, PAUSED, Condition
from caravan_operator.status.metrics import EXTERNAL_WRITES, RECONCILES
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event

log = logging.getLogger(__name__)
MAX_PASS_SECONDS = 150.0
"""Seconds for the deletions of a batch, however slowly each request is answered."""


class Deletions:
    def __init__(
        self,
        cache: ResourceCache,
        queue: WorkQueue,
        connections: Connections,
        namespace_labels: NamespaceLabels,
        status_writer: StatusWriter,
        clock: Callable[[], datetime],
        max_wait: timedelta,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._namespace_labels = namespace_labels
        self._status_writer = status_writer
        self._clock = clock
        self._max_wait = max_wait

    async def run(self, connection: Resource | None, deleting: Sequence[Resource]) -> None:
        """Bindings before queues before exchanges: the other way round from how they are made."""
        undecided = []
        for resource in deleting:
            decision = await self._decide_without_broker(resource, connection)
            if decision is None:
                undecided.append(resource)
            else:
                await self._carry_out(resource, decision)
        if connection is None or not undecided:
            return
        for kind in reversed(KINDS):
            resources_of_kind = [resource for resource in undecided if resource.key.kind == kind]
            if resources_of_kind:
                await self._delete_objects(kind, resources_of_kind, connection)

    async def _decide_without_broker(self, resource: Resource, connection: Resource | None) -> DeletionDecision | None:
        sharing = [other for other in self._cache.list_conflicting(resource) if other.deleted_at is None]
        refusal = None
        try:
            parse_desired(resource)
        except UnusableSpec as error:
            refusal = Condition(ACCEPTED, False, Reason.INVALID, str(error))
            return decide_without_broker(resource, connection, None, refusal, self._max_wait, self._clock())
        if connection is not None:
            refusal = check_permission(
                resource, connection, await self._namespace_labels.get_labels(resource, connection)
            )
            if refusal is None and connection.is_paused:
                refusal = Condition(
                    PAUSED, True, Reason.CONNECTION_PAUSED, f"connection {connection.key.namespaced_name} is paused"
                )
        return decide_without_broker(
            resource, connection, sharing[0] if sharing else None, refusal, self._max_wait, self._clock()
        )

    async def _delete_objects(self, kind: str, deleting: list[Resource], connection: Resource) -> None:
        rules = RULES[kind]
        desired = [rules.parse_spec(resource) for resource in deleting]
        now = self._clock()
        try:
            async with limit_seconds(MAX_PASS_SECONDS):
                broker = (await self._connections.open_client(connection)).broker
                states = await broker.read_states(
                    kind, desired, with_usage=any(each.spec["deletionPolicy"] == "DeleteIfUnused" for each in deleting)
                )
                decisions = [
                    wait_or_retain(each, state.message, self._max_wait, now)
                    if isinstance(state, Refusal)
                    else decide_removal(each, rules.plan_removal(target, state), self._max_wait, now)
                    for each, target, state in zip(deleting, desired, states, strict=True)
                ]
                refusals = await broker.apply_actions([decision.actions for decision in decisions])
        except BrokerUnavailable as error:
            self._queue.add(
                connection.key, connection.key, Priority.RETRY, self._connections.record_failure(connection.key, error)
            )
            for resource in deleting:
                await self._carry_out(resource, wait_or_retain(resource, str(error), self._max_wait, now))
            return
        for resource, decision, refusal in zip(deleting, decisions, refusals, strict=True):
            if refusal is not None:
                await self._carry_out(resource, wait_or_retain(resource, refusal.message, self._max_wait, now))
            elif decision.actions:
                summary = "; ".join(action.summary for action in decision.actions)
                EXTERNAL_WRITES.labels(kind, "delete").inc()
                log.info("deleted", extra={"key": resource.key.namespaced_name, "kind": kind, "action": summary})
                await self._carry_out(
                    resource, DeletionDecision(remove_finalizer=True, events=(Event(Reason.DELETED, summary),))
                )
            else:
                await self._carry_out(resource, decision)

    async def _carry_out(self, resource: Resource, decision: DeletionDecision) -> None:
        try:
            if decision.remove_finalizer:
                await self._status_writer.set_finalizer(resource, present=False)
                for event in decision.events:
                    self._status_writer.post_event(resource, event)
                RECONCILES.labels(resource.key.kind, "success").inc()
                self._queue.reset_attempts(resource.key)
                return
            if decision.conditions:
                await self._status_writer.write_status(resource, decision.conditions, {})
        except (StaleResource, ApiError) as error:
            log.debug("not written", extra={"key": resource.key.namespaced_name, "error": str(error)})
        if decision.conditions or resource.has_finalizer:
            self._queue.retry(resource.key, self._cache.get_connection_key(resource))
