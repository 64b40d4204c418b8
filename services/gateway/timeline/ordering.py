"""Puts what several services tell of one thing in the order of its causes.

Clocks decide nothing that a cause decides: an entry comes after what caused it, and after the earlier entries of its
subject. Only between entries that do not depend on each other does time choose, and an entry counts as no earlier than
what it came after, so that a service whose clock is wrong moves nothing but what is its own.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from caravan.clock import get_creation_time
from caravan.messages import ChannelType
from caravan.timeline import DeadMessage, HandledMessage, TimelineEntry, TimelinePart, WaitingMessage

FIRST_ENTRY = "event:1"
"""What orders call the first event of an order. It is not there while orders can't be asked."""

UNREADABLE = "unreadable message"
"""The kind of a dead letter that is no message of ours."""


@dataclass(slots=True)
class DeliveryCount:
    """How often one consumer got a message. A message that was handled had its effect once."""

    consumer: str
    deliveries: int
    handled_at: datetime


@dataclass(slots=True)
class Node:
    """An entry, or a message. `causal_time` is no earlier than that of what it came after."""

    entry: TimelineEntry
    deliveries: list[DeliveryCount] = field(default_factory=list)
    causal_time: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.causal_time = self.entry.time


def order_parts(parts: Sequence[TimelinePart]) -> list[Node]:
    """All entries and messages of the parts, each once, causes first."""
    entries = {entry.id: Node(entry) for part in parts for entry in part.entries}
    entries |= {dead.failure: Node(_build_dead_letter_entry(dead)) for part in parts for dead in part.dead}
    messages = _merge_messages(parts)
    for message_id in messages.keys() & entries.keys():  # a record of the audit log is a message itself
        entries[message_id].deliveries = messages.pop(message_id).deliveries
    _assign_messages([node.entry for node in entries.values()], [node.entry for node in messages.values()])
    return _sort_by_causes([*entries.values(), *messages.values()])


def _merge_messages(parts: Sequence[TimelinePart]) -> dict[str, Node]:
    """Each message once, by its id, with all who have handled it."""
    nodes: dict[str, Node] = {}
    for part in parts:
        for message in part.handled:
            node = nodes.setdefault(str(message.id), Node(_build_message_entry(message, message.handled_at)))
            node.entry.state = {}
            node.deliveries.append(
                DeliveryCount(message.consumer, message.attempt + message.refused, message.handled_at)
            )
        for waiting in part.waiting:
            node = nodes.setdefault(str(waiting.id), Node(_build_message_entry(waiting, waiting.created_at)))
            if not node.deliveries:
                node.entry.state = {"state": "refused" if waiting.refused_at else "waiting"}
                node.entry.details["reason"] = waiting.reason
    for dead in (dead for part in parts for dead in part.dead):
        if dead.id is not None and str(dead.id) not in nodes:
            node = nodes[str(dead.id)] = Node(_build_message_entry(dead, dead.failed_at))
            node.entry.state = {"state": "dead"}
    return dict(sorted(nodes.items()))


def _build_message_entry(message: HandledMessage | WaitingMessage | DeadMessage, seen_at: datetime) -> TimelineEntry:
    return TimelineEntry(
        id=str(message.id),
        source=get_message_source(message.channel_type),
        kind=message.type or UNREADABLE,
        subject=f"message:{message.id}",
        time=(get_creation_time(message.id) if message.id else None) or seen_at,
        cause=str(message.cause) if message.cause else None,
        details={"channel": message.channel},
        is_internal=True,
    )


def _build_dead_letter_entry(dead: DeadMessage) -> TimelineEntry:
    """One of each consumer that gave the message up: others may have handled it."""
    return TimelineEntry(
        id=dead.failure,
        source="dead_letters",
        kind=dead.type or UNREADABLE,
        subject=f"dead_letter:{dead.id or dead.failure}:{dead.consumer}",
        time=dead.failed_at,
        cause=str(dead.id) if dead.id else None,
        state={"state": "dead", "redrivable": dead.redrivable},
        details={
            "consumer": dead.consumer,
            "channel": dead.channel,
            "attempts": dead.attempts,
            "reason": dead.reason,
            "redrivable": dead.redrivable,
        },
        is_internal=True,
    )


def get_message_source(channel_type: ChannelType) -> str:
    """Topics are Kafka's, queues and exchanges are RabbitMQ's."""
    return "topics" if channel_type == "topic" else "queues"


def _assign_messages(entries: Sequence[TimelineEntry], messages: Sequence[TimelineEntry]) -> None:
    """Make the entry that a message went out with its cause: of the messages of the type that the entry announces the
    first one with the same cause, else the first one that is left.
    """
    by_type: dict[str, list[TimelineEntry]] = {}
    for message in messages:
        by_type.setdefault(message.kind, []).append(message)
    causes: dict[str, str] = {}
    missing: list[tuple[TimelineEntry, str]] = []
    for entry in entries:
        for name in entry.announces:
            candidates = by_type.get(name, [])
            message_of_same_cause = next((each for each in candidates if each.cause == entry.cause), None)
            if message_of_same_cause is None:
                missing.append((entry, name))
            else:
                candidates.remove(message_of_same_cause)
                causes[message_of_same_cause.id] = entry.id
    for entry, name in missing:
        if candidates := by_type.get(name, []):
            causes[candidates.pop(0).id] = entry.id
    for message in messages:
        message.cause = causes.get(message.id, message.cause)


def _sort_by_causes(nodes: list[Node]) -> list[Node]:
    by_id = {node.entry.id: number for number, node in enumerate(nodes)}
    followers: list[list[int]] = [[] for _ in nodes]
    waits_for = [0] * len(nodes)
    last_of_subject: dict[str, int] = {}
    first = by_id.get(FIRST_ENTRY)
    for number, node in enumerate(nodes):
        before = {by_id.get(node.entry.cause or ""), last_of_subject.get(node.entry.subject)} - {None, number}
        if not before:
            before = {first} - {None, number}  # nothing of an order happens before it is there
        for earlier in before:
            assert earlier is not None
            followers[earlier].append(number)
        waits_for[number] = len(before)
        last_of_subject[node.entry.subject] = number
    ordered: list[Node] = []
    ready = [(node.causal_time, number) for number, node in enumerate(nodes) if not waits_for[number]]
    heapq.heapify(ready)
    left = set(range(len(nodes)))
    while left:
        if not ready:  # causes that go round in a circle: what came first by its clock goes on
            heapq.heappush(ready, min((nodes[number].causal_time, number) for number in left))
        _, number = heapq.heappop(ready)
        if number not in left:
            continue
        left.discard(number)
        ordered.append(nodes[number])
        for follower in followers[number]:
            nodes[follower].causal_time = max(nodes[follower].causal_time, nodes[number].causal_time)
            waits_for[follower] -= 1
            if not waits_for[follower] and follower in left:
                heapq.heappush(ready, (nodes[follower].causal_time, follower))
    return ordered


def find_visible_cause(nodes: dict[str, Node], cause: str | None, visible: set[str]) -> str | None:
    """The nearest cause of a cause that may be seen."""
    seen: set[str] = set()
    while cause is not None and cause not in visible and cause not in seen:
        seen.add(cause)
        node = nodes.get(cause)
        cause = node.entry.cause if node else None
    return cause if cause in visible else None
