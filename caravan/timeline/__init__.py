"""What happened to one thing (the key of its messages), as each service tells it.

`schemas.py` has the shapes and the operation that every service with a database answers; `messages.py` finds the
messages that the service has handled, in its inbox, and those that wait in its outbox; `dead_letters.py` finds those
that it has given up. What the service's own tables
tell is declared by it (`Service.timeline`). Who asks all services orders the entries by their causes.
"""

from caravan.timeline.dead_letters import find_dead_messages
from caravan.timeline.messages import CauseFinder, Describe, ReadSubscription, answer_timeline, find_causes
from caravan.timeline.schemas import (
    DeadMessage,
    HandledMessage,
    TimelineEntry,
    TimelineGap,
    TimelinePart,
    TimelineRequest,
    WaitingMessage,
    build_timeline_operation,
)

__all__ = [
    "CauseFinder",
    "DeadMessage",
    "Describe",
    "HandledMessage",
    "ReadSubscription",
    "TimelineEntry",
    "TimelineGap",
    "TimelinePart",
    "TimelineRequest",
    "WaitingMessage",
    "answer_timeline",
    "build_timeline_operation",
    "find_causes",
    "find_dead_messages",
]
