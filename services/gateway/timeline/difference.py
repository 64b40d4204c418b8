"""What changed of an order between two moments: for each subject the state that it had at the one and at the other."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from services.gateway.schemas import TimelineChange, TimelineDifference, TimelineItem


def compare_moments(items: Sequence[TimelineItem], since: datetime | None, until: datetime) -> TimelineDifference:
    """`since` None: from before the first item."""
    before = _fold_states(item for item in items if since is not None and item.causal_time <= since)
    after = _fold_states(item for item in items if item.causal_time <= until)
    changes = [
        TimelineChange(subject=subject, field=name, before=old, after=new)
        for subject, state in after.items()
        for name, new in state.items()
        if (old := before.get(subject, {}).get(name)) != new
    ]
    return TimelineDifference(
        since=since,
        until=until,
        changes=changes,
        items=[item.id for item in items if (since is None or item.causal_time > since) and item.causal_time <= until],
    )


def _fold_states(items: Iterable[TimelineItem]) -> dict[str, dict[str, Any]]:
    states: dict[str, dict[str, Any]] = {}
    for item in items:
        if item.state:
            states.setdefault(item.subject, {}).update(item.state)
    return states
