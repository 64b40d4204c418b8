"""A resource that is being deleted: what happens to its object, and when the finalizer goes. It always goes some time."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from caravan_operator.reconcile.findings import Action, Removal
from caravan_operator.resources.kinds import FORCE_FINALIZE
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import PAUSED, SYNCED, Condition
from caravan_operator.status.document import Event
from caravan_operator.status.reasons import Reason

LONGEST_WAIT = timedelta(minutes=10)
"""A broker that is away, or an object in use, holds a deletion up for so long; then the object stays and the resource goes."""


@dataclass(frozen=True, slots=True)
class Ending:
    """`finish`: remove the finalizer now. Else run the actions, or wait and say why."""

    finish: bool = False
    actions: tuple[Action, ...] = ()
    conditions: tuple[Condition, ...] = ()
    events: tuple[Event, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


def settled(
    resource: Resource, connection: Resource | None, shared: Resource | None, refused: Condition | None, wait: timedelta, now: datetime
) -> Ending | None:
    """What can be said without asking the broker; None: ask it. `shared` is another resource with the same object."""
    if not resource.finalized:
        return Ending()
    if FORCE_FINALIZE in resource.annotations:
        return _keep(Reason.FORCED, "the annotation force-finalize is set", warning=True)
    if resource.paused:
        return Ending(
            conditions=(Condition(PAUSED, True, Reason.PAUSED, "the deletion waits: remove the annotation paused, or set force-finalize"),)
        )
    if resource.spec.get("deletionPolicy", "Retain") == "Retain" or resource.spec.get("mode") == "Plan":
        return _keep(Reason.RETAINED, "deletionPolicy or mode says so")
    if not resource.owned:
        return _keep(Reason.RETAINED, "this resource never owned it")
    if connection is None:
        return _keep(Reason.RETAINED, "its connection is gone", warning=True)
    if shared is not None:
        return _keep(Reason.RETAINED, f"{shared.key.path} names the same object")
    if refused is not None and refused.type != PAUSED:
        return _keep(Reason.RETAINED, refused.message, warning=True)
    return overdue(resource, refused.message, wait, now) if refused is not None else None


def overdue(resource: Resource, why: str, wait: timedelta, now: datetime) -> Ending:
    """Wait because of `why`, until the longest wait is over."""
    if resource.deleted is not None and now - resource.deleted >= wait:
        return _keep(Reason.RETAINED_AFTER_WAIT, f"after {int(wait.total_seconds())} s: {why}", warning=True)
    return Ending(conditions=(Condition(SYNCED, False, Reason.DELETING, f"the deletion waits: {why}"),))


def remove(resource: Resource, removal: Removal, wait: timedelta, now: datetime) -> Ending:
    """The broker has answered."""
    if not removal.actions:
        return Ending(finish=True, events=(Event(Reason.DELETED, "the object is gone"),))
    if resource.spec["deletionPolicy"] == "DeleteIfUnused" and removal.in_use:
        ending = overdue(resource, removal.in_use, wait, now)
        return (
            ending
            if ending.finish
            else Ending(conditions=(Condition(SYNCED, False, Reason.IN_USE, f"the deletion waits: {removal.in_use}"),))
        )
    return Ending(actions=removal.actions)


def _keep(reason: Reason, why: str, warning: bool = False) -> Ending:
    return Ending(finish=True, events=(Event(reason, f"the object stays on the broker: {why}", warning),))
