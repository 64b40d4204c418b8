"""Lets a client's connecting end before its user is cancelled, for clients that leak a connection otherwise."""

import asyncio
from collections.abc import Awaitable
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
