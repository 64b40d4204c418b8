"""Messages that wait in a reader's memory to be tried again, each behind the earlier ones of its key.

`caravan/bus/reader.py` fills and empties it; no I/O happens here.
"""

from collections import deque
from dataclasses import dataclass, field

from caravan.bus import IncomingMessage

REST_SECONDS = 10.0
"""Longest wait for something to handle. A message ends it, and so does `stop`: a reader at rest need not look whether
there is anything.
"""
RETRY_BUFFER_MAX = 2_000
"""Messages that a reader holds back at most (per partition on Kafka); beyond it no more are taken until some of them
are done.
"""


@dataclass(slots=True)
class _WaitingKey:
    due_at: float
    messages: deque[IncomingMessage] = field(default_factory=deque)


class RetryBuffer:
    """Keys whose first message failed: their messages in order, and when the first is due (loop time)."""

    def __init__(self) -> None:
        self._keys: dict[str, _WaitingKey] = {}

    def __len__(self) -> int:
        return sum(len(waiting.messages) for waiting in self._keys.values())

    def peek_first(self, key: str) -> IncomingMessage | None:
        waiting = self._keys.get(key)
        return waiting.messages[0] if waiting else None

    def enqueue_behind(self, incoming: IncomingMessage) -> bool:
        """Put a new message behind those of its key; whether there were any."""
        waiting = self._keys.get(incoming.key)
        if waiting:
            waiting.messages.append(incoming)
        return waiting is not None

    def requeue(self, key: str, messages: list[IncomingMessage], due_at: float) -> None:
        """Messages that ran or were held, in their order, before those of the key that had not run."""
        waiting = self._keys.setdefault(key, _WaitingKey(due_at))
        waiting.due_at = due_at
        waiting.messages.extendleft(reversed(messages))

    def raise_attempt(self, key: str, attempt: int) -> None:
        waiting = self._keys[key]
        waiting.messages[0] = waiting.messages[0]._replace(attempt=max(attempt, waiting.messages[0].attempt))

    def pop_due(self, now: float, limit: int) -> list[IncomingMessage]:
        """Take what is due, at most `limit`; what is left of a key stays before its newer messages."""
        due_messages: list[IncomingMessage] = []
        for key, waiting in list(self._keys.items()):
            while waiting.due_at <= now and waiting.messages and len(due_messages) < limit:
                due_messages.append(waiting.messages.popleft())
            if not waiting.messages:
                del self._keys[key]
        return due_messages

    def seconds_until_due(self, now: float) -> float:
        """Seconds until something is due, at most REST_SECONDS."""
        if not self._keys:
            return REST_SECONDS
        return min(REST_SECONDS, max(0.0, min(waiting.due_at for waiting in self._keys.values()) - now))

    def clear(self) -> None:
        self._keys.clear()
