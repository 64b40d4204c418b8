"""Whether the session of a verified token is still open: asked of identity and cached for a few seconds.

A logout, or the disabling of a user, reaches every token within `session_seconds`. While identity is unavailable, a
session keeps its last known state, and an unknown one counts as open: a token is then good until it expires.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from caravan.auth import Caller
from caravan.client import OperationClient
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem, Unauthorized
from caravan.fifo_cache import FifoCache
from caravan.telemetry import log
from services.identity.client import GET_SESSION_STATE, SessionStateRequest

MAX_SESSIONS = 50_000
UNAVAILABLE_SECONDS = 1.0


@dataclass(slots=True)
class _CachedSession:
    is_active: bool = True
    expires_at: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class SessionCache:
    def __init__(
        self, calls: OperationClient, max_age_seconds: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._calls = calls
        self._max_age_seconds = max_age_seconds
        self._now = now
        self._sessions: FifoCache[tuple[str, str], _CachedSession] = FifoCache(MAX_SESSIONS)

    async def require_open(self, caller: Caller) -> None:
        """Raises Unauthorized when the session has ended."""
        key = (caller.session, caller.subject)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = _CachedSession()
        if session.expires_at <= self._now():
            async with session.lock:  # one asks for all requests that wait
                if session.expires_at <= self._now():
                    await self._refresh_state(session, caller)
        if not session.is_active:
            raise Unauthorized("the session has ended; sign in again")

    async def _refresh_state(self, session: _CachedSession, caller: Caller) -> None:
        requested_at = self._now()
        try:
            session.is_active = (
                await self._calls(
                    GET_SESSION_STATE, SessionStateRequest(session=caller.session, subject=caller.subject)
                )
            ).active
            session.expires_at = requested_at + self._max_age_seconds
        except (Problem, *CONNECTION_LOST) as error:
            log.warning("session not checked: identity is unavailable", error=repr(error))
            session.expires_at = self._now() + UNAVAILABLE_SECONDS
