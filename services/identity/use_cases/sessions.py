"""Whether tokens of a session are still good, and the end of one."""

from uuid import UUID

from caravan.audit import audit
from caravan.auth import Caller
from caravan.database import UnitOfWork
from caravan.derivation import derive
from caravan.errors import Unauthorized
from services.identity.client import SessionRequest, SessionState
from services.identity.model import CLIENT_SESSION, RefreshToken
from services.identity.store import resets
from services.identity.store import sessions as store
from services.identity.use_cases.keys import Identity


async def session_state(context: Identity, request: SessionRequest) -> SessionState:
    return SessionState(active=await _active(context, request.session, request.subject))


async def _active(context: Identity, session: str, subject: str) -> bool:
    client = session.startswith(CLIENT_SESSION)
    if client and session == CLIENT_SESSION + subject:
        return True  # a client's token ends with its ten minutes, its secret with the master secret
    try:
        return await store.active(context.database, None if client else UUID(session), UUID(subject), context.clock())
    except ValueError:
        return False


async def require_open_session(context: Identity, caller: Caller) -> None:
    """Raises Unauthorized when the caller's session has ended, however long the token itself would last."""
    if not await _active(context, caller.session, caller.subject):
        raise Unauthorized("the session has ended; sign in again")


async def end_access(work: UnitOfWork, account_id: UUID, because: str, *, but: UUID | None = None) -> None:
    """End what was given out before a user's password, role or standing changed: every session but one, and every link that was mailed.

    The caller holds the account's row, so that no link is made meanwhile and two changes never wait for each other.
    """
    now = work.database.clock()
    await store.revoke_all(work, account_id, because, now, but=but)
    await resets.end_all(work, account_id, now)


def refresh_key(context: Identity) -> bytes:
    return bytes.fromhex(derive(context.secret, "refresh tokens"))


async def revoke_session(context: Identity, token: str) -> None:
    """Sign out: whoever has any refresh token of the session may end it. Other tokens end nothing (RFC 7009)."""
    refresh = RefreshToken.read(token, refresh_key(context))
    if refresh is None:
        return
    async with context.database.work() as work:
        user = await store.revoke(work, refresh.session, context.clock())
        if user is not None:
            audit(work, "session.revoked", f"user:{user}", actor=f"user:{user}", session=str(refresh.session))
