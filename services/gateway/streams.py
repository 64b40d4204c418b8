"""Live streams: limited per caller, per address and in total, and ended after some minutes or with their session."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from caravan.auth import Caller
from caravan.concurrency import map_concurrently
from caravan.errors import CapacityExceeded, TooManyRequests, Unauthorized
from services.gateway.metrics import OPEN_STREAMS
from services.gateway.sessions import SessionCache
from services.gateway.settings import Settings

CHECK_SECONDS = 1.0
SESSION_CHECKS = 20
"""Sessions that are looked up at the same time."""
STREAM_SECONDS = (540.0, 600.0)
"""Between these each stream ends. Clients connect again by themselves, and tell what they have seen: they do it all the
time, so that a deployment, which ends all streams, is nothing new to them.
"""


@dataclass(slots=True, eq=False)
class StreamSlot:
    """A place for one stream. `ended` is done when the stream has to end; `is_session_over` says whether for want of a
    session or a token, rather than for its time.
    """

    caller: Caller | None
    ends_at: float
    ended: asyncio.Future[None]
    is_session_over: bool = False

    def end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class LiveStreams:
    def __init__(self, settings: Settings, sessions: SessionCache) -> None:
        self._max_streams = settings.max_streams
        self._max_by_scope = {"you": settings.max_streams_per_caller, "your address": settings.max_streams_per_address}
        self._sessions = sessions
        self._open_by_key: Counter[tuple[str, str]] = Counter()
        self._slots: set[StreamSlot] = set()
        self._check_task: asyncio.Task[None] | None = None

    @property
    def open_streams(self) -> int:
        return len(self._slots)

    @contextmanager
    def reserve_slot(self, caller: Caller | None, address: str) -> Iterator[StreamSlot]:
        """Raises TooManyRequests, or CapacityExceeded when all are taken."""
        keys = [("your address", address), *([("you", caller.subject)] if caller else [])]
        for key in keys:
            max_streams = self._max_by_scope[key[0]]
            if self._open_by_key[key] >= max_streams:
                raise TooManyRequests(
                    f"{key[0]} may have {max_streams} live streams at a time; end one, or ask for the state now and "
                    "then",
                    retry_after=10,
                )
        if self.open_streams >= self._max_streams:
            raise CapacityExceeded("too many live streams are open; ask for the state now and then", retry_after=10)
        loop = asyncio.get_running_loop()
        seconds = random.uniform(*STREAM_SECONDS)
        if caller is not None:
            seconds = min(seconds, caller.expires_at - time.time())
        slot = StreamSlot(caller, loop.time() + seconds, loop.create_future())
        self._change_counts(keys, slot, 1)
        if self._check_task is None or self._check_task.done():
            self._check_task = asyncio.create_task(self._end_streams(), name="ends of live streams")
        try:
            yield slot
        finally:
            self._change_counts(keys, slot, -1)

    async def _end_streams(self) -> None:
        """While there are streams: ends those whose time is over, whose token has expired or whose session is closed.
        One task looks after all, and looks each session up once.
        """
        while self._slots:
            now = asyncio.get_running_loop().time()
            by_session: dict[tuple[str, str], list[StreamSlot]] = {}
            for slot in self._slots:
                if now >= slot.ends_at:
                    slot.is_session_over = slot.caller is not None and time.time() >= slot.caller.expires_at
                    slot.end()
                elif slot.caller is not None:
                    by_session.setdefault((slot.caller.session, slot.caller.subject), []).append(slot)
            await map_concurrently(self._check_session, by_session.values(), SESSION_CHECKS)
            await asyncio.sleep(CHECK_SECONDS)

    async def _check_session(self, slots: list[StreamSlot]) -> None:
        assert slots[0].caller is not None
        try:
            await self._sessions.require_open(slots[0].caller)
        except Unauthorized:
            for slot in slots:
                slot.is_session_over = True
                slot.end()

    def _change_counts(self, keys: list[tuple[str, str]], slot: StreamSlot, by: int) -> None:
        if by > 0:
            self._slots.add(slot)
        else:
            self._slots.discard(slot)
        OPEN_STREAMS.set(len(self._slots))
        for key in keys:
            self._open_by_key[key] += by
            if not self._open_by_key[key]:
                del self._open_by_key[key]
