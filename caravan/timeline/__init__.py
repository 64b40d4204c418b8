"""What happened to one thing (the key of its messages), as each service tells it.

`schemas.py` has the shapes and the operation that every service with a database answers; `messages.py` finds the
messages that the service has handled, in its inbox, and those that wait in its outbox. What the service's own tables
tell is declared by it (`Service.timeline`). Who asks all services orders the entries by their causes.
"""

from caravan.timeline.messages import CauseFinder, Describe, ReadSubscription, answer_timeline, find_causes
from caravan.timeline.schemas import (
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
]
