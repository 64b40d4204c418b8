"""From a diff to a decision: actions, or conditions, status fields and events. Adoption, drift and plan mode are
handled here for every kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from caravan_operator.reconcile.diff import Action, Diff, Problem
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import (
    ACCEPTED,
    CONNECTION_READY,
    DEPENDENCIES_READY,
    DRIFTED,
    PAUSED,
    SYNCED,
    Condition,
)
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event, limit_lines


@dataclass(frozen=True, slots=True)
class Decision:
    """`actions` to run now; without any, `conditions` and `status_fields` go into the status."""

    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    status_fields: Mapping[str, Any] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    """Posted once the actions have succeeded, or with the status."""
    needs_claim: bool = False
    """The object is about to be created: the resource is claimed first."""
    has_drift: bool = False


def make_decision(
    resource: Resource, diff: Diff, exists: bool, *, has_dependencies: bool = False, after_apply: bool = False
) -> Decision:
    """`after_apply`: this pass has run its actions already, and the diff is what they left."""
    healthy_conditions = _build_healthy_conditions(resource, has_dependencies)
    if diff.missing_dependency:
        return _decide_wait(diff, diff.missing_dependency, healthy_conditions)
    is_adoption = exists and not resource.is_owned
    if is_adoption and (refusal := _refuse_adoption(resource, diff)) is not None and not after_apply:
        return refusal
    is_plan_mode = resource.spec.get("mode") == "Plan"
    has_drift = bool(diff.actions) and resource.is_applied and not after_apply
    is_report_only = has_drift and resource.spec.get("driftPolicy") == "Report"
    if diff.actions and not is_plan_mode and not is_report_only:
        return _decide_actions(resource, diff, exists=exists, has_drift=has_drift)
    status_fields = {**diff.status_fields, **_clear_report_fields()}
    changes = [action.summary for action in diff.actions]
    if is_plan_mode:
        return Decision(
            conditions=(*healthy_conditions, *_build_plan_conditions(changes, diff)),
            status_fields=status_fields | {"plan": limit_lines(changes) or None},
        )
    status_fields |= _build_origin_fields(resource, is_adoption)
    if is_report_only:
        return Decision(
            conditions=(*healthy_conditions, *_build_drift_conditions(changes)),
            status_fields=status_fields | {"drift": limit_lines(changes)},
            has_drift=True,
        )
    events = (Event(Reason.ADOPTED, "took over what was there, unchanged"),) if is_adoption and not after_apply else ()
    return Decision(
        conditions=(*healthy_conditions, *_build_sync_conditions(diff)),
        status_fields=status_fields | {"appliedGeneration": resource.generation},
        events=events,
    )


def _decide_wait(diff: Diff, missing: Problem, healthy_conditions: tuple[Condition, ...]) -> Decision:
    dependencies_ready = Condition(DEPENDENCIES_READY, False, missing.reason, missing.message)
    pending = Condition(SYNCED, None, Reason.PENDING, missing.message)
    return Decision(
        conditions=(*healthy_conditions, dependencies_ready, pending),
        status_fields=dict(diff.status_fields) | _clear_report_fields(),
    )


def _decide_actions(resource: Resource, diff: Diff, *, exists: bool, has_drift: bool) -> Decision:
    if not exists:
        reason = Reason.CREATED
    elif not resource.is_owned:
        reason = Reason.ADOPTED
    else:
        reason = Reason.DRIFT_CORRECTED if has_drift else Reason.UPDATED
    event = Event(reason, "; ".join(limit_lines(action.summary for action in diff.actions)))
    needs_claim = not exists and not resource.is_claimed
    return Decision(diff.actions, events=(event,), needs_claim=needs_claim, has_drift=has_drift)


def _build_healthy_conditions(resource: Resource, has_dependencies: bool) -> tuple[Condition, ...]:
    conditions = [Condition(ACCEPTED, True, Reason.ACCEPTED), Condition(CONNECTION_READY, True, Reason.REACHABLE)]
    if has_dependencies:
        conditions.append(Condition(DEPENDENCIES_READY, True, Reason.FOUND))
    if resource.get_condition(PAUSED):
        conditions.append(Condition(PAUSED, False, Reason.RUNNING))
    return tuple(conditions)


def _clear_report_fields() -> dict[str, Any]:
    return {"plan": None, "drift": None, "conflict": None}


def _build_origin_fields(resource: Resource, is_adoption: bool) -> dict[str, Any]:
    if is_adoption:
        return {"origin": "Adopted", "adoptedGeneration": resource.generation}
    return {"origin": resource.status.get("origin", "Created")}


def _refuse_adoption(resource: Resource, diff: Diff) -> Decision | None:
    """Refuse an object that the resource didn't create, where its adoption policy forbids to take it over."""
    policy = resource.spec.get("adoptionPolicy", "IfEqual")
    differences = [action.summary for action in diff.actions] + [problem.message for problem in diff.problems]
    if policy == "Adopt" or (policy == "IfEqual" and not differences):
        return None
    if policy == "Refuse":
        refusal = Condition(
            ACCEPTED,
            False,
            Reason.ALREADY_EXISTS,
            "the object exists already; adoptionPolicy: IfEqual or Adopt would take it over",
        )
    else:
        message = (
            f"the object exists already and {len(differences)} things differ (status.drift); adoptionPolicy: Adopt "
            "would change them"
        )
        refusal = Condition(ACCEPTED, False, Reason.NOT_EQUAL, message)
    conditions = (
        refusal,
        Condition(CONNECTION_READY, True, Reason.REACHABLE),
        Condition(SYNCED, False, refusal.reason, refusal.message),
    )
    return Decision(
        conditions=conditions, status_fields={"plan": None, "conflict": None, "drift": limit_lines(differences) or None}
    )


def _build_drift_conditions(changes: list[str]) -> tuple[Condition, ...]:
    message = f"{len(changes)} differences are reported, not repaired (driftPolicy: Report)"
    return (
        Condition(DRIFTED, True, Reason.DRIFT_REPORTED, message),
        Condition(SYNCED, False, Reason.DRIFT_REPORTED, message),
    )


def _build_plan_conditions(changes: list[str], diff: Diff) -> tuple[Condition, ...]:
    if changes:
        pending = Condition(
            SYNCED,
            False,
            Reason.PLAN_PENDING,
            f"{len(changes)} changes would be made (status.plan); mode: Apply makes them",
        )
        return (pending, Condition(DRIFTED, False, Reason.NO_DRIFT))
    return _build_sync_conditions(diff)


def _build_sync_conditions(diff: Diff) -> tuple[Condition, ...]:
    if diff.problems:
        first = diff.problems[0]
        message = "; ".join(problem.message for problem in diff.problems)
        return (Condition(SYNCED, False, first.reason, message), Condition(DRIFTED, False, Reason.NO_DRIFT))
    return (Condition(SYNCED, True, Reason.IN_SYNC), Condition(DRIFTED, False, Reason.NO_DRIFT))
