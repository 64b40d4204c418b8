"""Builds the patch from the stored status to the one that a pass leaves; the patch is empty when nothing has
changed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from caravan_operator.resources.ownership import MAX_LINES
from caravan_operator.resources.resource import Resource
from caravan_operator.status.conditions import (
    READY,
    Condition,
    format_timestamp,
    merge_conditions,
    parse_conditions,
    summarize_ready,
)
from caravan_operator.status.reasons import Reason
from caravan_operator.status.text import to_one_line

_MAX_LINE_LENGTH = 512


@dataclass(frozen=True, slots=True)
class Event:
    """An Event of Kubernetes, which `kubectl describe` shows; posted on transitions only."""

    reason: Reason
    message: str
    warning: bool = False


def limit_lines(texts: Iterable[str]) -> list[str]:
    """At most MAX_LINES lines; the last one counts those left out."""
    bounded = [to_one_line(line, _MAX_LINE_LENGTH) for line in texts]
    return (
        bounded
        if len(bounded) <= MAX_LINES
        else [*bounded[: MAX_LINES - 1], f"and {len(bounded) - MAX_LINES + 1} more"]
    )


def build_status_patch(
    resource: Resource, conditions: Iterable[Condition], status_fields: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """The merge patch from the stored status to the one with these conditions and fields; empty when they are equal.

    A field of None is removed. `lastSyncTime` moves only together with something else.
    """
    previous = resource.status.get("conditions") or ()
    all_conditions = [*conditions]
    reported_types = {condition.type for condition in all_conditions}
    summary = summarize_ready(
        [
            *all_conditions,
            *(condition for condition in parse_conditions(previous) if condition.type not in reported_types),
        ]
    )
    desired = dict(status_fields) | {
        "observedGeneration": resource.generation,
        "conditions": merge_conditions(previous, [*all_conditions, summary], resource.generation, now),
    }
    patch = {name: value for name, value in desired.items() if resource.status.get(name) != value}
    return patch | {"lastSyncTime": format_timestamp(now)} if patch else {}


def list_transition_events(resource: Resource, patch: Mapping[str, Any]) -> list[Event]:
    """One Event when Ready's status or reason moved, so that a lasting failure causes one Event."""
    before = resource.get_condition(READY)
    after = next((each for each in patch.get("conditions") or () if each["type"] == READY), None)
    if after is None or (before and (before["status"], before["reason"]) == (after["status"], after["reason"])):
        return []
    if after["status"] == "True":
        return [Event(Reason.READY, "in sync with the broker")]
    return [Event(Reason(after["reason"]), after["message"] or after["reason"], warning=after["status"] == "False")]
