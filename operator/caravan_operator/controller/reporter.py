"""The only writer of what passes leave behind: statuses, Events, finalizers, and the metrics of passes.

The reconcilers hand it reports and decisions, and put keys into the queue again by what it returns. Mechanisms that
have metrics of their own (queue, watches, connections, the brokers' clients) count for themselves.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from caravan_operator.backends.kubernetes import ApiError
from caravan_operator.controller.report import PassResult, Report
from caravan_operator.controller.resource_writer import ResourceWriter, StaleResource
from caravan_operator.controller.stages.plan import ResourcePlan
from caravan_operator.controller.status_writer import StatusWriter
from caravan_operator.reconcile.deletion import DeletionDecision
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import Condition
from caravan_operator.status.metrics import (
    DRIFTS,
    EXTERNAL_WRITES,
    RECONCILE_ERRORS,
    RECONCILES,
    SNAPSHOT_DELAY_SECONDS,
    SNAPSHOTS,
)

log = logging.getLogger(__name__)


class Reporter:
    def __init__(self, resource_writer: ResourceWriter, status_writer: StatusWriter) -> None:
        self._resource_writer = resource_writer
        self._status_writer = status_writer

    async def publish(self, report: Report) -> bool:
        """Write and count a report. Returns whether it could be written; what couldn't is to come again."""
        kind = report.resource.key.kind
        if report.has_new_drift:
            DRIFTS.labels(kind, "reported").inc()
        if report.result is not PassResult.REQUEUE:
            try:
                await self._write_report(report)
            except (StaleResource, ApiError) as error:
                self.report_write_failure(report.resource, error)
                return False
        RECONCILES.labels(kind, report.result).inc()
        if report.result is PassResult.ERROR:
            RECONCILE_ERRORS.labels(kind).inc()
            RECONCILES.labels(kind, PassResult.REQUEUE).inc()
        return True

    async def publish_deletion(self, resource: Resource, decision: DeletionDecision) -> bool:
        """Let the resource go, or write why it waits. Returns whether it was let go."""
        try:
            if decision.remove_finalizer:
                await self._resource_writer.set_finalizer(resource, present=False)
                for event in decision.events:
                    self._status_writer.post_event(resource, event)
                RECONCILES.labels(resource.key.kind, PassResult.SUCCESS).inc()
                return True
            if decision.conditions:
                await self._status_writer.write_status(resource, decision.conditions, {})
        except (StaleResource, ApiError) as error:
            log.debug("not written", extra={"key": resource.key.namespaced_name, "error": str(error)})
        return False

    async def publish_route(
        self, resource: Resource, conditions: Iterable[Condition], status_fields: Mapping[str, Any]
    ) -> None:
        """The status of a ServiceRoute. Raises StaleResource, ApiError: the gateway's pass comes again as a whole."""
        await self._status_writer.write_status(resource, conditions, status_fields)
        RECONCILES.labels(resource.key.kind, PassResult.SUCCESS).inc()

    def report_write_failure(self, resource: Resource, error: StaleResource | ApiError) -> None:
        """The pass comes again: with a newer resource, or when the API server takes writes."""
        if isinstance(error, ApiError):
            log.warning("not written", extra={"key": resource.key.namespaced_name, "error": str(error)})
            RECONCILE_ERRORS.labels(resource.key.kind).inc()
        RECONCILES.labels(resource.key.kind, PassResult.REQUEUE).inc()

    def report_applied(self, plan: ResourcePlan) -> None:
        """The broker has taken the actions of a plan."""
        key = plan.resource.key
        for action in plan.decision.actions:
            EXTERNAL_WRITES.labels(key.kind, type(action).__name__).inc()
            log.info(
                "applied",
                extra={
                    "key": key.namespaced_name,
                    "kind": key.kind,
                    "generation": plan.resource.generation,
                    "action": action.summary,
                },
            )
        if plan.decision.has_drift:
            DRIFTS.labels(key.kind, "corrected").inc()

    def report_deleted(self, resource: Resource, summary: str) -> None:
        """The broker has deleted the object of a resource."""
        EXTERNAL_WRITES.labels(resource.key.kind, "delete").inc()
        log.info(
            "deleted",
            extra={"key": resource.key.namespaced_name, "kind": resource.key.kind, "action": summary},
        )

    def count_unexpected_failure(self, kind: str) -> None:
        """A pass has failed with an unexpected error."""
        RECONCILE_ERRORS.labels(kind).inc()

    def count_gateway_failure(self, kind: str) -> None:
        """The pass of a gateway has failed and comes again."""
        RECONCILE_ERRORS.labels(kind).inc()
        RECONCILES.labels(kind, PassResult.ERROR).inc()

    def count_snapshot(self, result: str) -> None:
        SNAPSHOTS.labels(result).inc()

    def observe_snapshot_delay(self, seconds: float) -> None:
        SNAPSHOT_DELAY_SECONDS.observe(seconds)

    async def _write_report(self, report: Report) -> None:
        resource = report.resource
        if report.needs_finalizer is not None:
            resource = await self._resource_writer.set_finalizer(resource, present=report.needs_finalizer)
        await self._status_writer.write_status(resource, report.conditions, report.status_fields, report.events)
