"""Decides what happens to the object of a resource that is being deleted, and when the finalizer is removed. Every
wait but that of a pause has a limit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from caravan_operator.reconcile.diff import Action, Removal
from caravan_operator.resources.kinds import FORCE_FINALIZE_ANNOTATION
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import PAUSED, SYNCED, Condition
from caravan_operator.status.reasons import Reason
from caravan_operator.status.status_patch import Event

MAX_WAIT = timedelta(minutes=10)
"""How long an unavailable broker, or an object in use, may hold up a deletion; then the object stays and the resource
goes.
"""


@dataclass(frozen=True, slots=True)
class DeletionDecision:
    """Remove the finalizer now; else run the actions, or wait with the conditions as the reason."""

    remove_finalizer: bool = False
    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    status_fields: Mapping[str, Any] = field(default_factory=dict)


def needs_finalizer(resource: Resource) -> bool:
    """Whether a deletion has something to do on the broker, so that the resource must wait for it."""
    return resource.spec.get("deletionPolicy", "Retain") != "Retain" and resource.spec.get("mode") != "Plan"


def decide_without_broker(
    resource: Resource,
    connection: Resource | None,
    sharing_resource: Resource | None,
    refusal: Condition | None,
    wait: timedelta,
    now: datetime,
) -> DeletionDecision | None:
    """The decision that needs no answer of the broker; None: ask it. `sharing_resource` is another resource that names
    the same object.
    """
    if not resource.has_finalizer:
        return DeletionDecision()
    if FORCE_FINALIZE_ANNOTATION in resource.annotations:
        return _retain_object(Reason.FORCED, "the annotation force-finalize is set", warning=True)
    if resource.is_paused:
        return DeletionDecision(
            conditions=(
                Condition(
                    PAUSED,
                    True,
                    Reason.PAUSED,
                    "the deletion waits: remove the annotation paused, or set force-finalize",
                ),
            )
        )
    if retention := _decide_retention(resource, connection, sharing_resource, refusal):
        return retention
    return wait_or_retain(resource, refusal.message, wait, now) if refusal is not None else None


def _decide_retention(
    resource: Resource,
    connection: Resource | None,
    sharing_resource: Resource | None,
    refusal: Condition | None,
) -> DeletionDecision | None:
    if not needs_finalizer(resource):
        return _retain_object(Reason.RETAINED, "deletionPolicy or mode says so")
    if not resource.is_owned:
        return _retain_object(Reason.RETAINED, "this resource never owned it")
    if connection is None:
        return _retain_object(Reason.RETAINED, "its connection is gone", warning=True)
    if sharing_resource is not None:
        return _retain_object(Reason.RETAINED, f"{sharing_resource.key.namespaced_name} names the same object")
    if refusal is not None and refusal.type != PAUSED:
        return _retain_object(Reason.RETAINED, refusal.message, warning=True)
    return None


def wait_or_retain(resource: Resource, why: str, wait: timedelta, now: datetime) -> DeletionDecision:
    """Wait because of `why`, until the longest wait is over."""
    if resource.deleted_at is not None and now - resource.deleted_at >= wait:
        return _retain_object(Reason.RETAINED_AFTER_WAIT, f"after {int(wait.total_seconds())} s: {why}", warning=True)
    return DeletionDecision(conditions=(Condition(SYNCED, False, Reason.DELETING, f"the deletion waits: {why}"),))


def decide_removal(resource: Resource, removal: Removal, wait: timedelta, now: datetime) -> DeletionDecision:
    """The broker has answered."""
    if not removal.actions:
        return DeletionDecision(remove_finalizer=True, events=(Event(Reason.DELETED, "the object is gone"),))
    if resource.spec["deletionPolicy"] == "DeleteIfUnused" and removal.in_use_reason:
        decision = wait_or_retain(resource, removal.in_use_reason, wait, now)
        return (
            decision
            if decision.remove_finalizer
            else DeletionDecision(
                conditions=(Condition(SYNCED, False, Reason.IN_USE, f"the deletion waits: {removal.in_use_reason}"),)
            )
        )
    return DeletionDecision(actions=removal.actions)


def _retain_object(reason: Reason, why: str, warning: bool = False) -> DeletionDecision:
    return DeletionDecision(
        remove_finalizer=True, events=(Event(reason, f"the object stays on the broker: {why}", warning),)
    )
