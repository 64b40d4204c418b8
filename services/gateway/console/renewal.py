"""Opens the session of a request, and renews its tokens shortly before the access token ends.

A refresh token is for one use, and a browser asks for several things at the same moment: so one request renews, and the
others, in whichever replica of the gateway, take what it got. Redis carries it for a minute; while Redis is away each
replica renews for itself.
"""

import asyncio
import hashlib
from typing import Any

from redis.exceptions import RedisError
from starlette.requests import Request

from caravan.errors import ServiceUnavailable
from caravan.fifo_cache import FifoCache
from caravan.telemetry import log
from services.gateway.console.api_client import Answer, ApiClient, ApiRefused
from services.gateway.console.session import SESSION_COOKIE, Session, SessionSeal
from services.gateway.use_cases import GatewayContext

LEAD_SECONDS = 30
"""So long before its end an access token is renewed: a page asks for several things with it."""
SHARED_SECONDS = 60
WAIT_SECONDS = 10.0
POLL_SECONDS = 0.05
REDIS_SECONDS = 0.5
MAX_RENEWALS = 10_000


class SessionOpener:
    def __init__(self, context: GatewayContext, seal: SessionSeal) -> None:
        self._context = context
        self._seal = seal
        self._renewals: FifoCache[str, asyncio.Task[Session | None]] = FifoCache(MAX_RENEWALS)

    async def open_session(self, request: Request, api: ApiClient) -> Session | None:
        """None without a cookie of ours, and when the session has ended. Raises ServiceUnavailable when the tokens have
        to be renewed and can't be.
        """
        session = self._seal.read_session(request.cookies.get(SESSION_COOKIE, ""))
        if session is None or session.expires_at - LEAD_SECONDS > self._context.clock().timestamp():
            return session
        key = "console:renewal:" + hashlib.sha256(session.refresh_token.encode()).hexdigest()
        renewal = self._renewals.get(key)
        if renewal is None or (renewal.done() and (renewal.cancelled() or renewal.exception())):
            renewal = self._renewals[key] = asyncio.create_task(self._renew(key, session, api))
        return await asyncio.shield(renewal)

    async def _renew(self, key: str, session: Session, api: ApiClient) -> Session | None:
        if await self._reach_redis("set", key, b"", nx=True, ex=SHARED_SECONDS) is None:
            return await self._await_renewal(key)
        try:
            renewed = await self._request_tokens(session, api)
        except BaseException:
            await self._reach_redis("delete", key)
            raise
        await self._reach_redis("set", key, self._seal.seal_session(renewed) if renewed else "ended", ex=SHARED_SECONDS)
        return renewed

    async def _reach_redis(self, command: str, *arguments: Any, **options: Any) -> Any:
        """What Redis answers; True where it doesn't."""
        try:
            async with asyncio.timeout(REDIS_SECONDS):
                return await getattr(self._context.redis, command)(*arguments, **options)
        except (RedisError, OSError, TimeoutError) as error:
            log.warning("a session of the console is renewed without Redis", error=repr(error))
            return True

    async def _await_renewal(self, key: str) -> Session | None:
        """What another replica gets."""
        for _ in range(int(WAIT_SECONDS / POLL_SECONDS)):
            stored = await self._reach_redis("get", key)
            if stored is None or stored is True:
                break
            if stored:
                return self._seal.read_session(stored.decode() if isinstance(stored, bytes) else stored)
            await asyncio.sleep(POLL_SECONDS)
        raise ServiceUnavailable("your session could not be renewed; try again")

    async def _request_tokens(self, session: Session, api: ApiClient) -> Session | None:
        answer = await api.post_form(
            "/v1/auth/token", {"grant_type": "refresh_token", "refresh_token": session.refresh_token}
        )
        if answer.status in (400, 401):
            return None
        return await build_renewed_session(self._context, session, answer)


async def build_renewed_session(context: GatewayContext, session: Session, answer: Answer) -> Session:
    """The session with the tokens of an answer of the token endpoint. Raises ApiRefused."""
    tokens = answer.parse()
    if not tokens.get("refresh_token"):
        raise ApiRefused(400, {"title": "No session", "detail": "this account can't open a session"})
    caller = await context.verifier.verify(tokens["access_token"])
    return session.renew_tokens(tokens["access_token"], tokens["refresh_token"], caller.expires_at, caller.role)
