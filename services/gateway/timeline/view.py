"""What the caller may see of a timeline: staff see all of it; a customer sees what happened to the order, not how the
shop works inside, nor who of its people did it.
"""

from collections.abc import Sequence

from services.gateway.schemas import MessageDelivery, MissingSource, TimelineItem
from services.gateway.timeline.ordering import Node, find_visible_cause

INTERNAL_SOURCES = frozenset({"saga", "topics", "queues", "dead_letters", "jobs", "audit"})
"""Of which a customer sees no items."""


def build_items(nodes: Sequence[Node], *, is_staff: bool) -> list[TimelineItem]:
    """The items in their order. A customer's cause is the nearest one that the customer may see."""
    by_id = {node.entry.id: node for node in nodes}
    shown = [node for node in nodes if is_staff or not node.entry.is_internal]
    visible = {node.entry.id for node in shown}
    return [
        _build_item(
            node,
            node.entry.cause if is_staff else find_visible_cause(by_id, node.entry.cause, visible),
            is_staff=is_staff,
        )
        for node in shown
    ]


def build_missing(missing: Sequence[MissingSource], *, is_staff: bool) -> list[MissingSource]:
    """What is missing of what the caller would see. Why is told to staff alone: the reasons name what the shop is made
    of.
    """
    if is_staff:
        return list(missing)
    return [
        item.model_copy(update={"reason": "no longer kept" if item.before else "not available now"})
        for item in missing
        if item.source not in INTERNAL_SOURCES
    ]


def _build_item(node: Node, cause: str | None, *, is_staff: bool) -> TimelineItem:
    entry = node.entry
    return TimelineItem(
        id=entry.id,
        source=entry.source,
        kind=entry.kind,
        subject=entry.subject,
        time=entry.time,
        causal_time=node.causal_time,
        cause=cause,
        actor=entry.actor if is_staff else _hide_person(entry.actor),
        trace_id=entry.trace_id,
        state=entry.state,
        details={**entry.details, **entry.internal} if is_staff else entry.details,
        deliveries=[
            MessageDelivery(
                consumer=count.consumer, deliveries=count.deliveries, effects=1, handled_at=count.handled_at
            )
            for count in node.deliveries
        ]
        if is_staff
        else [],
    )


def _hide_person(actor: str | None) -> str | None:
    """`customer:<id>` is the customer; of anybody else only what they are."""
    return actor.partition(":")[0] if actor else None
