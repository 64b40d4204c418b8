"""How the clients of the brokers are opened: by one user at a time, and to the end even when that user is cancelled."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")

_LONGER_SECONDS = 5.0
"""So much longer may connecting take than its user wants to wait. A broker that hangs is left then."""


async def finish_opening(opening: Awaitable[T]) -> T:
    """Await it; when its user is cancelled or out of time, let it end first, so that whoever opened can close.

    The clients' connecting can't be cut off anywhere: between a connection made and the client knowing of it, it would
    stay open until the collector finds it.
    """
    acting = asyncio.ensure_future(opening)
    try:
        return await asyncio.shield(acting)
    except asyncio.CancelledError:
        await _end(acting)
        raise


async def _end(acting: asyncio.Future[T]) -> None:
    """Whoever is cancelled again meanwhile is ended by the first time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + _LONGER_SECONDS
    while not acting.done():
        try:
            await asyncio.wait([acting], timeout=max(0.0, until - loop.time()))
        except asyncio.CancelledError:
            continue
        if loop.time() >= until:
            acting.cancel()
            until += _LONGER_SECONDS
    if not acting.cancelled():
        acting.exception()  # retrieved and dropped: its user has gone


class OpeningTurns:
    """One user opens at a time; those who waited while it failed hear the same error.

    With a broker that answers nothing each attempt takes its whole deadline: a batch of 500 keys that tried one after
    the other would hold its sender up for more than an hour.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._ended_count = 0
        self._failure: tuple[int, Exception] | None = None
        """How many turns had ended with the one that failed last, and why it did."""

    @asynccontextmanager
    async def take_turn(self) -> AsyncIterator[None]:
        ended_before = self._ended_count
        async with self._lock:
            if self._failure is not None and self._failure[0] > ended_before:
                error = self._failure[1]
                raise type(error)(*error.args) from error
            try:
                yield
                self._failure = None
            except Exception as error:
                self._failure = self._ended_count + 1, error
                raise
            finally:
                self._ended_count += 1
