"""One pass over a batch of resources of one connection: look, compare, change, look again, say. Created, changed,
resumed and swept resources take the same way.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from caravan_operator.backends.broker import BrokerUnavailable, Refusal, limit_seconds
from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.connections import BrokerClient, Connections
from caravan_operator.controller.deletions import Deletions
from caravan_operator.controller.item import ReconcileItem, run_concurrently
from caravan_operator.controller.lease import LeaseLost
from caravan_operator.controller.namespace_labels import NamespaceLabels
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.status_writer import StaleResource, StatusWriter
from caravan_operator.reconcile import RULES, parse_desired
from caravan_operator.reconcile.admission import check_admission, find_conflict, validate_connection
from caravan_operator.reconcile.decide import Decision
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.resources import KINDS
from caravan_operator.resources.names import UnusableSpec
from caravan_operator.resources.resource import Key, Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DRIFTED, PAUSED, SYNCED, Condition
from caravan_operator.status.metrics import DRIFTS, EXTERNAL_WRITES, RECONCILE_ERRORS, RECONCILES
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event, limit_lines

log = logging.getLogger(__name__)
MAX_UNCONVERGED_PASSES = 3
"""Passes that may leave a difference before the status says so: a broker needs a moment to show what it has done."""
MAX_CHECK_SECONDS, MAX_PASS_SECONDS = 120.0, 300.0
"""Seconds, however slowly each request is answered; with the deletions less than what the probe allows a batch."""


class Reconciler:
    """What one connection's worker calls with the keys that are due."""

    def __init__(
        self,
        cache: ResourceCache,
        queue: WorkQueue,
        connections: Connections,
        namespace_labels: NamespaceLabels,
        status_writer: StatusWriter,
        deletions: Deletions,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._namespace_labels = namespace_labels
        self._status_writer = status_writer
        self._deletions = deletions

    async def run(self, group: Key, keys: Sequence[Key]) -> None:
        """A pass that fails for a reason nobody foresaw is made again in halves: the resource that is the reason fails
        alone.
        """
        try:
            await self._reconcile_batch(group, keys)
        except LeaseLost:
            raise
        except Exception:
            if len(keys) > 1:
                half = len(keys) // 2
                await self.run(group, keys[:half])
                await self.run(group, keys[half:])
                return
            log.exception(
                "a pass failed",
                extra={"connection": group.namespaced_name, "key": keys[0].namespaced_name, "kind": keys[0].kind},
            )
            RECONCILE_ERRORS.labels(keys[0].kind).inc()
            self._queue.retry(keys[0], group)

    async def _reconcile_batch(self, group: Key, keys: Sequence[Key]) -> None:
        connection = self._cache.get(group)
        resources = [resource for key in keys if (resource := self._cache.get(key)) is not None]
        if connection is not None and group in keys:
            await self._reconcile_connection(connection)
            connection = self._cache.get(group) or connection
        with_rules = [resource for resource in resources if resource.key.kind in RULES]
        deleting = [resource for resource in with_rules if resource.deleted_at is not None]
        await self._deletions.run(connection, deleting)
        active = [resource for resource in with_rules if resource.deleted_at is None]
        items = [item for resource in active if (item := await self._admit_resource(resource, connection)) is not None]
        if connection is None or not items:
            return
        try:
            async with limit_seconds(MAX_PASS_SECONDS):
                client = await self._connections.open_client(connection)
                for kind in KINDS:
                    items_of_kind = [item for item in items if item.resource.key.kind == kind]
                    if items_of_kind:
                        await self._reconcile_kind(kind, items_of_kind, client)
                        items = [item for item in items if item.resource.key.kind != kind]
        except BrokerUnavailable as error:
            await self._handle_unavailable(connection, items, error)

    async def _reconcile_connection(self, connection: Resource) -> None:
        """The connection's own status; when it is back after a failure everything that it serves is looked at again."""
        name = connection.key
        if connection.is_paused:
            await self._write_status(
                connection, [Condition(PAUSED, True, Reason.PAUSED, "nothing that it serves is changed")], {}
            )
            return
        if (refusal := validate_connection(connection)) is not None:
            await self._write_status(
                connection, [refusal, Condition(SYNCED, None, refusal.reason, refusal.message)], {}
            )
            return
        try:
            async with limit_seconds(MAX_CHECK_SECONDS):
                client, status_fields = await self._connections.check_broker(connection)
        except BrokerUnavailable as error:
            pause = self._connections.record_failure(name, error)
            conditions = [
                Condition(CONNECTION_READY, False, error.reason, str(error)),
                Condition(SYNCED, None, error.reason, str(error)),
            ]
            await self._write_status(connection, conditions, {"reachable": False, "circuit": "Open"})
            self._queue.add(name, name, Priority.RETRY, pause)
            return
        was_open = self._connections.record_success(name)
        conditions = [
            Condition(ACCEPTED, True, Reason.ACCEPTED),
            Condition(CONNECTION_READY, True, Reason.REACHABLE),
            Condition(SYNCED, True, Reason.IN_SYNC),
        ]
        if connection.get_condition(PAUSED):
            conditions.append(Condition(PAUSED, False, Reason.RUNNING))
        ready_condition = connection.get_condition(CONNECTION_READY)
        is_same_spec = connection.status.get("observedGeneration") == connection.generation
        is_rotated = is_same_spec and connection.status.get("connectionHash") not in (None, client.fingerprint)
        events = [Event(Reason.CREDENTIALS_ROTATED, "the new credentials are in use")] if is_rotated else []
        await self._write_status(
            connection,
            conditions,
            {**status_fields, "reachable": True, "circuit": "Closed", "connectionHash": client.fingerprint},
            events=events,
        )
        if was_open or ready_condition is None or ready_condition["status"] != "True":
            for key in self._cache.list_served(name):
                self._queue.add(key, name, Priority.RETRY)

    async def _admit_resource(self, resource: Resource, connection: Resource | None) -> ReconcileItem | None:
        """An item for the broker, or None when the pass ends here with a condition."""
        conflict = find_conflict(resource, self._cache.list_conflicting(resource))
        stop_condition = check_admission(
            resource, connection, conflict, await self._namespace_labels.get_labels(resource, connection)
        )
        if stop_condition is None:
            try:
                return ReconcileItem(resource, RULES[resource.key.kind], parse_desired(resource))
            except UnusableSpec as error:
                stop_condition = Condition(ACCEPTED, False, Reason.INVALID, str(error))
        status_fields: dict[str, Any] = {
            "conflict": conflict.key.namespaced_name if conflict and stop_condition.reason is Reason.CONFLICT else None
        }
        conditions = (
            [stop_condition]
            if stop_condition.type == PAUSED
            else [stop_condition, Condition(SYNCED, None, stop_condition.reason, stop_condition.message)]
        )
        await self._write_status(resource, conditions, status_fields, "waiting")
        return None

    async def _reconcile_kind(self, kind: str, items: list[ReconcileItem], client: BrokerClient) -> None:
        broker = client.broker
        states = await broker.read_states(kind, [item.desired for item in items])
        refusals = [(item, state) for item, state in zip(items, states, strict=True) if isinstance(state, Refusal)]
        await run_concurrently(self._write_refusal(item, refused) for item, refused in refusals)
        comparable = [
            (item, state) for item, state in zip(items, states, strict=True) if not isinstance(state, Refusal)
        ]
        items = [item for item, _ in comparable]
        for item, state in comparable:
            item.compare(state)
        with_actions = [item for item in items if item.decision.actions]
        without_actions = [item for item in items if not item.decision.actions]
        if with_actions:
            await self._apply_items(kind, with_actions, client)
        plan_mode_items = [
            item for item in without_actions if item.diff.actions and item.resource.spec.get("mode") == "Plan"
        ]
        for item, refused in zip(
            plan_mode_items,
            await broker.apply_actions([item.diff.actions for item in plan_mode_items], dry_run=True),
            strict=True,
        ):
            if refused is not None:
                plan = limit_lines(
                    [*(action.summary for action in item.diff.actions), f"the broker would refuse: {refused.message}"]
                )
                item.decision = replace(item.decision, status_fields={**item.decision.status_fields, "plan": plan})
        await run_concurrently(self._write_result(item, client) for item in without_actions)

    async def _apply_items(self, kind: str, items: list[ReconcileItem], client: BrokerClient) -> None:
        """Claim what is about to be created, apply, and look again."""
        claim_results = await run_concurrently(self._claim_item(item) for item in items)
        items = [item for item, ready in zip(items, claim_results, strict=True) if ready]
        refusals = await client.broker.apply_actions([item.decision.actions for item in items])
        applied_items = [item for item, refused in zip(items, refusals, strict=True) if refused is None]
        first_decisions = {id(item): item.decision for item in applied_items}
        for item in applied_items:
            self._record_applied(kind, item)
        states = (
            await client.broker.read_states(kind, [item.desired for item in applied_items]) if applied_items else []
        )
        for item, state in zip(applied_items, states, strict=True):
            item.compare(None if isinstance(state, Refusal) else state, after_apply=True)
        await run_concurrently(self._write_result(item, client, first_decisions[id(item)]) for item in applied_items)
        await run_concurrently(
            self._write_refusal(item, refused)
            for item, refused in zip(items, refusals, strict=True)
            if refused is not None
        )

    async def _claim_item(self, item: ReconcileItem) -> bool:
        if not item.decision.needs_claim:
            return True
        try:
            item.resource = await self._status_writer.write_claim(
                item.resource, finalizer=_needs_finalizer(item.resource)
            )
        except StaleResource:
            self._retry_resource(item.resource)
            return False
        except ApiError as error:
            self._handle_write_failure(item.resource, error)
            return False
        return True

    def _record_applied(self, kind: str, item: ReconcileItem) -> None:
        """What the broker has taken: metrics, the log, and those that hang on a new object."""
        group = self._cache.get_connection_key(item.resource)
        for action in item.decision.actions:
            EXTERNAL_WRITES.labels(kind, type(action).__name__).inc()
            log.info(
                "applied",
                extra={
                    "key": item.resource.key.namespaced_name,
                    "kind": kind,
                    "generation": item.resource.generation,
                    "action": action.summary,
                },
            )
            if isinstance(action, Call) and action.created_identity:
                for key in self._cache.list_dependents(group, action.created_identity):
                    self._queue.add(key, group, Priority.NEW)
        if item.decision.has_drift:
            DRIFTS.labels(kind, "corrected").inc()

    async def _write_result(
        self, item: ReconcileItem, client: BrokerClient, first_decision: Decision | None = None
    ) -> None:
        """Write the status that a settled decision leaves; a decision that still has actions comes again."""
        resource = item.resource
        if item.decision.actions:
            if self._queue.get_attempts(resource.key) < MAX_UNCONVERGED_PASSES:
                self._retry_resource(resource)
                return
            remaining_changes = "; ".join(limit_lines(action.summary for action in item.decision.actions))
            conditions = [
                Condition(
                    SYNCED,
                    False,
                    Reason.NOT_CONVERGING,
                    f"the broker took the change and does not show it: {remaining_changes}",
                )
            ]
            await self._write_status(resource, conditions, {}, "error")
            self._retry_resource(resource)
            return
        if item.decision.has_drift and (resource.get_condition(DRIFTED) or {}).get("status") != "True":
            DRIFTS.labels(resource.key.kind, "reported").inc()
        try:
            if item.decision.status_fields.get("origin"):
                item.resource = resource = await self._status_writer.set_finalizer(
                    resource, present=_needs_finalizer(resource)
                )
        except (StaleResource, ApiError) as error:
            self._handle_write_failure(resource, error)
            return
        status_fields = {**item.decision.status_fields, "connectionHash": client.fingerprint}
        events = [*(first_decision.events if first_decision else ()), *item.decision.events]
        is_waiting = item.diff.missing_dependency is not None
        is_written = await self._write_status(
            resource, item.decision.conditions, status_fields, "waiting" if is_waiting else "success", events
        )
        if is_waiting:
            self._queue.retry(resource.key, self._cache.get_connection_key(resource))
        elif is_written:
            self._queue.reset_attempts(resource.key)

    async def _write_refusal(self, item: ReconcileItem, refusal: Refusal) -> None:
        conditions = [
            Condition(ACCEPTED, True, Reason.ACCEPTED),
            Condition(CONNECTION_READY, True, Reason.REACHABLE),
            Condition(SYNCED, False, Reason.BROKER_REFUSED, refusal.message),
        ]
        await self._write_status(item.resource, conditions, {"plan": None}, "error")
        self._retry_resource(item.resource)

    async def _handle_unavailable(
        self, connection: Resource, items: list[ReconcileItem], error: BrokerUnavailable
    ) -> None:
        """The broker doesn't answer: say so once on each, and leave the next trial to the connection's own pass."""
        pause = self._connections.record_failure(connection.key, error)
        self._queue.add(connection.key, connection.key, Priority.RETRY, pause)
        conditions = [Condition(CONNECTION_READY, False, error.reason, str(error))]
        await run_concurrently(
            self._write_status(
                item.resource,
                conditions
                if item.resource.is_applied
                else [*conditions, Condition(SYNCED, None, error.reason, str(error))],
                {},
                "waiting",
            )
            for item in items
        )

    async def _write_status(
        self,
        resource: Resource,
        conditions: Iterable[Condition],
        status_fields: dict[str, Any],
        result: str = "success",
        events: Any = (),
    ) -> bool:
        try:
            await self._status_writer.write_status(resource, conditions, status_fields, events)
        except (StaleResource, ApiError) as error:
            self._handle_write_failure(resource, error)
            return False
        RECONCILES.labels(resource.key.kind, result).inc()
        if result == "error":
            RECONCILE_ERRORS.labels(resource.key.kind).inc()
        return True

    def _handle_write_failure(self, resource: Resource, error: Exception) -> None:
        if not isinstance(error, StaleResource):
            log.warning("not written", extra={"key": resource.key.namespaced_name, "error": str(error)})
            RECONCILE_ERRORS.labels(resource.key.kind).inc()
        self._retry_resource(resource)

    def _retry_resource(self, resource: Resource) -> None:
        RECONCILES.labels(resource.key.kind, "requeue").inc()
        self._queue.retry(resource.key, self._cache.get_connection_key(resource))


def _needs_finalizer(resource: Resource) -> bool:
    """Whether a deletion has something to do, so that the resource must wait for it."""
    return resource.spec.get("deletionPolicy", "Retain") != "Retain" and resource.spec.get("mode") != "Plan"
