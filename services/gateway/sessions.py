"""Whether the session behind a verified token is still open: asked of identity, remembered for a few seconds.

A logout or the disabling of a user reaches every token within `session_seconds`. While identity is away a session keeps the state that was last seen, and
one that was never seen counts as open: a token is then good until it expires.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from caravan.auth import Caller
from caravan.client import Calls
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem, Unauthorized
from caravan.telemetry import log
from services.identity.client import SESSION, SessionRequest

MOST = 50_000
AWAY_SECONDS = 1.0


@dataclass(slots=True)
class _Session:
    active: bool = True
    until: float = 0.0
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Sessions:
    def __init__(self, calls: Calls, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._seconds = seconds
        self._now = now
        self._seen: OrderedDict[tuple[str, str], _Session] = OrderedDict()

    async def require_open(self, caller: Caller) -> None:
        """Raises Unauthorized when the session has ended."""
        key = (caller.session, caller.subject)
        session = self._seen.get(key)
        if session is None:
            session = self._seen[key] = _Session()
            if len(self._seen) > MOST:
                self._seen.popitem(last=False)
        if session.until <= self._now():
            async with session.asking:  # one asks for all requests that wait
                if session.until <= self._now():
                    await self._ask(session, caller)
        if not session.active:
            raise Unauthorized("the session has ended; sign in again")

    async def _ask(self, session: _Session, caller: Caller) -> None:
        asked = self._now()
        try:
            session.active = (await self._calls(SESSION, SessionRequest(session=caller.session, subject=caller.subject))).active
            session.until = asked + self._seconds
        except (Problem, *CONNECTION_LOST) as error:
            log.warning("session not checked: identity is away", error=repr(error))
            session.until = self._now() + AWAY_SECONDS
