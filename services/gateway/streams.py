"""Live streams: bounded for each caller, for each address and in all, and ended when the session behind them ends."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from caravan.auth import Caller
from caravan.errors import Busy, TooManyRequests, Unauthorized
from services.gateway.sessions import Sessions
from services.gateway.settings import Settings

OPEN = Gauge("caravan_gateway_streams", "Live streams that are open at this replica")
CHECK_SECONDS = 1.0
LONGEST_SECONDS = 3600.0
"""Clients connect again by themselves, and tell what they have seen."""


class Streams:
    def __init__(self, settings: Settings, sessions: Sessions) -> None:
        self._most = settings.streams
        self._most_of = {"you": settings.streams_per_caller, "your address": settings.streams_per_address}
        self._sessions = sessions
        self._open: Counter[tuple[str, str]] = Counter()
        self._all = 0

    @contextmanager
    def hold(self, caller: Caller | None, address: str) -> Iterator[None]:
        """A place for one stream. Raises TooManyRequests, or Unavailable when all are taken."""
        keys = [("your address", address), *([("you", caller.subject)] if caller else [])]
        for key in keys:
            most = self._most_of[key[0]]
            if self._open[key] >= most:
                raise TooManyRequests(
                    f"{key[0]} may have {most} live streams at a time; end one, or ask for the state now and then", retry_after=10
                )
        if self._all >= self._most:
            raise Busy("too many live streams are open; ask for the state now and then", retry_after=10)
        self._change(keys, 1)
        try:
            yield
        finally:
            self._change(keys, -1)

    async def ended(self, caller: Caller | None) -> None:
        """Returns when the caller's token has expired or the session has ended."""
        left = LONGEST_SECONDS if caller is None else min(LONGEST_SECONDS, caller.expires - time.time())
        end = asyncio.get_running_loop().time() + left
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, CHECK_SECONDS))
            try:
                if caller is not None:
                    await self._sessions.require_open(caller)
            except Unauthorized:
                return

    def _change(self, keys: list[tuple[str, str]], by: int) -> None:
        self._all += by
        OPEN.set(self._all)
        for key in keys:
            self._open[key] += by
            if not self._open[key]:
                del self._open[key]
