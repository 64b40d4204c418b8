"""The pass over resources that are being deleted: deal with the object as the policy says, then let the resource go.
The rules are those of `reconcile/deletion.py`; the reconciler calls this before it reconciles the others.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from caravan_operator.backends.broker import Broker, BrokerUnavailable, Refusal, limit_seconds
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connections import Connections
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.reporter import Reporter
from caravan_operator.reconcile import RULES, parse_desired
from caravan_operator.reconcile.admission import check_permission
from caravan_operator.reconcile.deletion import DeletionDecision, decide_removal, decide_without_broker, wait_or_retain
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, PAUSED, Condition
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event

MAX_PASS_SECONDS = 150.0
"""Seconds for the deletions of a batch, however slowly each request is answered."""


class Deletions:
    def __init__(
        self,
        cache: ResourceCache,
        queue: WorkQueue,
        connections: Connections,
        namespace_labels: NamespaceLabels,
        reporter: Reporter,
        clock: Callable[[], datetime],
        max_wait: timedelta,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._namespace_labels = namespace_labels
        self._reporter = reporter
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
                await self._publish_decision(resource, decision)
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
        try:
            async with limit_seconds(MAX_PASS_SECONDS):
                broker = (await self._connections.open_client(connection)).broker
                decisions = await self._decide_removals(broker, kind, deleting)
                refusals = await broker.apply_actions([decision.actions for decision in decisions])
        except BrokerUnavailable as error:
            pause = self._connections.record_failure(connection.key, error)
            self._queue.add(connection.key, connection.key, Priority.RETRY, pause)
            for resource in deleting:
                await self._publish_decision(resource, self._wait_or_retain(resource, str(error)))
            return
        for resource, decision, refusal in zip(deleting, decisions, refusals, strict=True):
            if refusal is not None:
                await self._publish_decision(resource, self._wait_or_retain(resource, refusal.message))
            elif decision.actions:
                summary = "; ".join(action.summary for action in decision.actions)
                self._reporter.report_deleted(resource, summary)
                deleted = DeletionDecision(remove_finalizer=True, events=(Event(Reason.DELETED, summary),))
                await self._publish_decision(resource, deleted)
            else:
                await self._publish_decision(resource, decision)

    async def _decide_removals(self, broker: Broker, kind: str, deleting: list[Resource]) -> list[DeletionDecision]:
        rules = RULES[kind]
        desired = [rules.parse_spec(resource) for resource in deleting]
        with_usage = any(resource.spec["deletionPolicy"] == "DeleteIfUnused" for resource in deleting)
        states = await broker.read_states(kind, desired, with_usage=with_usage)
        return [
            self._wait_or_retain(resource, state.message)
            if isinstance(state, Refusal)
            else decide_removal(resource, rules.plan_removal(target, state), self._max_wait, self._clock())
            for resource, target, state in zip(deleting, desired, states, strict=True)
        ]

    def _wait_or_retain(self, resource: Resource, why: str) -> DeletionDecision:
        return wait_or_retain(resource, why, self._max_wait, self._clock())

    async def _publish_decision(self, resource: Resource, decision: DeletionDecision) -> None:
        if await self._reporter.publish_deletion(resource, decision):
            self._queue.reset_attempts(resource.key)
        elif decision.conditions or resource.has_finalizer:
            self._queue.retry(resource.key, self._cache.get_connection_key(resource))
