"""Live streams: limited per caller, per address and in total, and closed when their session ends."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from caravan.auth import Caller
from caravan.errors import CapacityExceeded, TooManyRequests, Unauthorized
from services.gateway.sessions import SessionCache
from services.gateway.settings import Settings

OPEN_STREAMS = Gauge("caravan_gateway_streams", "Live streams that are open at this replica")
CHECK_SECONDS = 1.0
MAX_STREAM_SECONDS = 3600.0
"""Clients connect again by themselves, and tell what they have seen."""


class LiveStreams:
    def __init__(self, settings: Settings, sessions: SessionCache) -> None:
        self._max_streams = settings.max_streams
        self._max_by_scope = {"you": settings.max_streams_per_caller, "your address": settings.max_streams_per_address}
        self._sessions = sessions
        self._open_by_key: Counter[tuple[str, str]] = Counter()
        self._open_total = 0

    @contextmanager
    def reserve_slot(self, caller: Caller | None, address: str) -> Iterator[None]:
        """A place for one stream. Raises TooManyRequests, or Unavailable when all are taken."""
        keys = [("your address", address), *([("you", caller.subject)] if caller else [])]
        for key in keys:
            max_streams = self._max_by_scope[key[0]]
            if self._open_by_key[key] >= max_streams:
                raise TooManyRequests(
                    f"{key[0]} may have {max_streams} live streams at a time; end one, or ask for the state now and "
                    "then",
                    retry_after=10,
                )
        if self._open_total >= self._max_streams:
            raise CapacityExceeded("too many live streams are open; ask for the state now and then", retry_after=10)
        self._change_counts(keys, 1)
        try:
            yield
        finally:
            self._change_counts(keys, -1)

    async def wait_for_end(self, caller: Caller | None) -> None:
        """Returns when the caller's token has expired or the session has ended."""
        seconds_left = (
            MAX_STREAM_SECONDS if caller is None else min(MAX_STREAM_SECONDS, caller.expires_at - time.time())
        )
        deadline = asyncio.get_running_loop().time() + seconds_left
        while (seconds_left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(seconds_left, CHECK_SECONDS))
            try:
                if caller is not None:
                    await self._sessions.require_open(caller)
            except Unauthorized:
                return

    def _change_counts(self, keys: list[tuple[str, str]], by: int) -> None:
        self._open_total += by
        OPEN_STREAMS.set(self._open_total)
        for key in keys:
            self._open_by_key[key] += by
            if not self._open_by_key[key]:
                del self._open_by_key[key]
