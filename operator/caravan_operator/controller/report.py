"""What a pass leaves on a resource, as a value: built here from what the stages return, published by `reporter.py`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from caravan_operator.backends.broker import BrokerUnavailable
from caravan_operator.controller.stages.admit import RejectedResource
from caravan_operator.controller.stages.observe import RefusedResource
from caravan_operator.controller.stages.plan import ResourcePlan
from caravan_operator.reconcile.deletion import needs_finalizer
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import ACCEPTED, CONNECTION_READY, DRIFTED, PAUSED, SYNCED, Condition
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event, limit_lines

MAX_UNCONVERGED_PASSES = 3
"""Passes that may leave a difference before the status says so: a broker needs a moment to show what it has done."""


class PassResult(StrEnum):
    """How a pass over a resource ended; a label of `caravan_operator_reconcile_total`."""

    SUCCESS = "success"
    WAITING = "waiting"
    """Something else has to change first."""
    ERROR = "error"
    """It failed, and comes again."""
    REQUEUE = "requeue"
    """It comes again; there is nothing to report yet."""


@dataclass(frozen=True, slots=True)
class Report:
    resource: Resource
    result: PassResult
    conditions: tuple[Condition, ...] = ()
    status_fields: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    needs_retry: bool = False
    """Whether the resource comes again after a pause."""
    needs_finalizer: bool | None = None
    """Whether our finalizer shall be there; None: it stays as it is."""
    has_new_drift: bool = False
    """Whether drift is reported that was not reported before."""


def build_rejection_report(rejected: RejectedResource) -> Report:
    condition, conflict = rejected.condition, rejected.conflict
    synced = Condition(SYNCED, None, condition.reason, condition.message)
    return Report(
        rejected.resource,
        PassResult.WAITING,
        (condition,) if condition.type == PAUSED else (condition, synced),
        {"conflict": conflict.key.namespaced_name if conflict else None},
    )


def build_refusal_report(refused: RefusedResource) -> Report:
    conditions = (
        Condition(ACCEPTED, True, Reason.ACCEPTED),
        Condition(CONNECTION_READY, True, Reason.REACHABLE),
        Condition(SYNCED, False, Reason.BROKER_REFUSED, refused.refusal.message),
    )
    return Report(refused.resource, PassResult.ERROR, conditions, {"plan": None}, needs_retry=True)


def build_unavailable_report(resource: Resource, error: BrokerUnavailable) -> Report:
    """The broker doesn't answer. A resource whose spec was applied keeps its condition Synced."""
    connection_ready = Condition(CONNECTION_READY, False, error.reason, str(error))
    synced = Condition(SYNCED, None, error.reason, str(error))
    return Report(
        resource, PassResult.WAITING, (connection_ready,) if resource.is_applied else (connection_ready, synced)
    )


def build_plan_report(plan: ResourcePlan, fingerprint: str, attempts: int) -> Report:
    """What the last plan of a pass leaves; `attempts`: passes over this resource that have failed before."""
    resource, decision = plan.resource, plan.decision
    if decision.actions:
        return _build_unconverged_report(plan, attempts)
    is_waiting = plan.diff.missing_dependency is not None
    drifted = resource.get_condition(DRIFTED) or {}
    return Report(
        resource,
        PassResult.WAITING if is_waiting else PassResult.SUCCESS,
        decision.conditions,
        {**decision.status_fields, "connectionHash": fingerprint},
        decision.events,
        needs_retry=is_waiting,
        needs_finalizer=needs_finalizer(resource) if decision.status_fields.get("origin") else None,
        has_new_drift=decision.has_drift and drifted.get("status") != "True",
    )


def _build_unconverged_report(plan: ResourcePlan, attempts: int) -> Report:
    if attempts < MAX_UNCONVERGED_PASSES:
        return Report(plan.resource, PassResult.REQUEUE, needs_retry=True)
    changes = "; ".join(limit_lines(action.summary for action in plan.decision.actions))
    message = f"the broker took the change and does not show it: {changes}"
    condition = Condition(SYNCED, False, Reason.NOT_CONVERGING, message)
    return Report(plan.resource, PassResult.ERROR, (condition,), needs_retry=True)
