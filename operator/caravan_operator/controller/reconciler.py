"""Runs the stages over the resources of one connection that are due: admit, observe, plan, apply, verify. Created,
changed, resumed and swept resources take the same way.

The stages return values, the reporter writes what they mean, and this module decides what comes again. A connection's
worker calls it with a batch of keys; `deletions.py` does the same for resources that are being deleted.
"""

import logging
from collections.abc import Iterable, Sequence

from caravan_operator.backends.broker import BrokerUnavailable, limit_seconds
from caravan_operator.controller.cache import ResourceCache
from caravan_operator.controller.concurrency import run_concurrently
from caravan_operator.controller.connection_reconciler import ConnectionReconciler
from caravan_operator.controller.connections import BrokerClient, Connections
from caravan_operator.controller.deletions import Deletions
from caravan_operator.controller.lease import LeaseLost
from caravan_operator.controller.queue import Priority, WorkQueue
from caravan_operator.controller.report import (
    PassResult,
    Report,
    build_plan_report,
    build_refusal_report,
    build_rejection_report,
    build_unavailable_report,
)
from caravan_operator.controller.reporter import Reporter
from caravan_operator.controller.resource_writer import ResourceWriter
from caravan_operator.controller.stages.admit import Admission, AdmittedResource
from caravan_operator.controller.stages.apply import FailedClaim, apply_plans, claim_resource
from caravan_operator.controller.stages.observe import observe_objects
from caravan_operator.controller.stages.plan import ResourcePlan, plan_changes, preview_plans
from caravan_operator.controller.stages.verify import verify_plans
from caravan_operator.reconcile import RULES
from caravan_operator.reconcile.rabbitmq_call import Call
from caravan_operator.resources import KINDS
from caravan_operator.resources.resource import Key, Resource

log = logging.getLogger(__name__)
MAX_PASS_SECONDS = 300.0
"""Seconds, however slowly each request is answered; with the connection's check and the deletions less than what the
probe allows a batch.
"""


class Reconciler:
    def __init__(
        self,
        cache: ResourceCache,
        queue: WorkQueue,
        connections: Connections,
        admission: Admission,
        resource_writer: ResourceWriter,
        reporter: Reporter,
        connection_reconciler: ConnectionReconciler,
        deletions: Deletions,
    ) -> None:
        self._cache = cache
        self._queue = queue
        self._connections = connections
        self._admission = admission
        self._resource_writer = resource_writer
        self._reporter = reporter
        self._connection_reconciler = connection_reconciler
        self._deletions = deletions

    async def run(self, group: Key, keys: Sequence[Key]) -> None:
        """One pass over a batch. After an unexpected error the batch is split in halves, so that the resource that
        causes it fails alone.
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
            self._reporter.count_unexpected_failure(keys[0].kind)
            self._queue.retry(keys[0], group)

    async def _reconcile_batch(self, group: Key, keys: Sequence[Key]) -> None:
        connection = self._cache.get(group)
        resources = [resource for key in keys if (resource := self._cache.get(key)) is not None]
        if connection is not None and group in keys:
            await self._connection_reconciler.run(connection)
            connection = self._cache.get(group) or connection
        resources = [resource for resource in resources if resource.key.kind in RULES]
        await self._deletions.run(connection, [each for each in resources if each.deleted_at is not None])
        active = [each for each in resources if each.deleted_at is None]
        admitted = await self._admit_resources(active, connection)
        if connection is not None and admitted:
            await self._reconcile_admitted(connection, admitted)

    async def _admit_resources(
        self, resources: Sequence[Resource], connection: Resource | None
    ) -> list[AdmittedResource]:
        admitted: list[AdmittedResource] = []
        for resource in resources:
            result = await self._admission.admit_resource(resource, connection)
            if isinstance(result, AdmittedResource):
                admitted.append(result)
            else:
                await self._publish_report(build_rejection_report(result))
        return admitted

    async def _reconcile_admitted(self, connection: Resource, admitted: Sequence[AdmittedResource]) -> None:
        """Kind after kind, in the order in which they depend on one another."""
        pending = {each.resource.key: each.resource for each in admitted}
        try:
            async with limit_seconds(MAX_PASS_SECONDS):
                client = await self._connections.open_client(connection)
                for kind in KINDS:
                    admitted_of_kind = [each for each in admitted if each.resource.key.kind == kind]
                    if admitted_of_kind:
                        await self._reconcile_kind(kind, admitted_of_kind, client, pending)
                        for each in admitted_of_kind:
                            del pending[each.resource.key]
        except BrokerUnavailable as error:
            pause = self._connections.record_failure(connection.key, error)
            self._queue.add(connection.key, connection.key, Priority.RETRY, pause)
            await self._publish_reports(build_unavailable_report(resource, error) for resource in pending.values())

    async def _reconcile_kind(
        self, kind: str, admitted: Sequence[AdmittedResource], client: BrokerClient, pending: dict[Key, Resource]
    ) -> None:
        """`pending`: the newest version of each resource on which nothing is reported yet; claims renew it."""
        observations, refused = await observe_objects(client.broker, kind, admitted)
        await self._publish_reports(build_refusal_report(each) for each in refused)
        plans = [plan_changes(observation) for observation in observations]
        await self._apply_plans(kind, [plan for plan in plans if plan.decision.actions], client, pending)
        unchanged = await preview_plans(client.broker, [plan for plan in plans if not plan.decision.actions])
        await self._publish_plans(unchanged, client)

    async def _apply_plans(
        self, kind: str, plans: Sequence[ResourcePlan], client: BrokerClient, pending: dict[Key, Resource]
    ) -> None:
        claims = await run_concurrently(self._claim_resource(plan, pending) for plan in plans)
        applied, refused = await apply_plans(client.broker, [claim for claim in claims if claim is not None])
        for plan in applied:
            self._reporter.report_applied(plan)
            self._wake_dependents(plan)
        await self._publish_plans(await verify_plans(client.broker, kind, applied), client)
        await self._publish_reports(build_refusal_report(each) for each in refused)

    async def _claim_resource(self, plan: ResourcePlan, pending: dict[Key, Resource]) -> ResourcePlan | None:
        claim = await claim_resource(self._resource_writer, plan)
        if isinstance(claim, FailedClaim):
            self._reporter.report_write_failure(claim.resource, claim.error)
            self._retry_resource(claim.resource)
            return None
        pending[claim.resource.key] = claim.resource
        return claim

    def _wake_dependents(self, plan: ResourcePlan) -> None:
        """Request passes over what depends on a new object."""
        group = self._cache.get_connection_key(plan.resource)
        for action in plan.decision.actions:
            if isinstance(action, Call) and action.created_identity:
                for key in self._cache.list_dependents(group, action.created_identity):
                    self._queue.add(key, group, Priority.NEW)

    async def _publish_plans(self, plans: Iterable[ResourcePlan], client: BrokerClient) -> None:
        await self._publish_reports(
            build_plan_report(plan, client.fingerprint, self._queue.get_attempts(plan.resource.key)) for plan in plans
        )

    async def _publish_reports(self, reports: Iterable[Report]) -> None:
        await run_concurrently(self._publish_report(report) for report in reports)

    async def _publish_report(self, report: Report) -> None:
        is_written = await self._reporter.publish(report)
        if report.needs_retry or not is_written:
            self._retry_resource(report.resource)
        elif report.result is PassResult.SUCCESS:
            self._queue.reset_attempts(report.resource.key)

    def _retry_resource(self, resource: Resource) -> None:
        self._queue.retry(resource.key, self._cache.get_connection_key(resource))
