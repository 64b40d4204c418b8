"""Whether a session is open, and how it is ended."""

from uuid import UUID

from caravan.audit import record_audit
from caravan.auth import Caller
from caravan.database import UnitOfWork
from caravan.derivation import derive_secret
from caravan.errors import Unauthorized
from services.identity.client import SessionState, SessionStateRequest
from services.identity.model import CLIENT_SESSION_PREFIX, EXTERNAL_SESSION_PREFIX, ExternalSession, RefreshToken
from services.identity.store import external, resets
from services.identity.store import sessions as store
from services.identity.use_cases.keys import IdentityContext


async def get_session_state(context: IdentityContext, request: SessionStateRequest) -> SessionState:
    return SessionState(active=await _is_active(context, request.session, request.subject))


async def _is_active(context: IdentityContext, session: str, subject: str) -> bool:
    if session == CLIENT_SESSION_PREFIX + subject:
        return True  # a client's token ends with its ten minutes, its secret with the master secret
    try:
        if session.startswith(EXTERNAL_SESSION_PREFIX) and not await _is_external_active(context, session):
            return False
        is_stored = not session.startswith((CLIENT_SESSION_PREFIX, EXTERNAL_SESSION_PREFIX))
        return await store.is_active(
            context.database, UUID(session) if is_stored else None, UUID(subject), context.clock()
        )
    except ValueError:
        return False


async def _is_external_active(context: IdentityContext, session: str) -> bool:
    parsed = ExternalSession.parse_id(session)
    return await external.is_active(context.database, parsed.account, parsed.issued_at)


async def require_open_session(context: IdentityContext, caller: Caller) -> None:
    """Raises Unauthorized when the caller's session has ended, however long the token itself would last."""
    if not await _is_active(context, caller.session, caller.subject):
        raise Unauthorized("the session has ended; sign in again")


async def end_access(uow: UnitOfWork, account_id: UUID, reason: str, *, except_session: UUID | None = None) -> None:
    """End what was given out before a user's password, role or standing changed: every session but one, every link
    that was mailed, and every token of an outside issuer.

    The caller holds the account's row, so that no link is made meanwhile and two changes never wait for each other.
    """
    now = uow.database.clock()
    await store.revoke_sessions(uow, account_id, reason, now, except_session=except_session)
    await resets.end_links(uow, account_id, now)
    await external.end_tokens(uow, account_id, now)


def derive_refresh_key(context: IdentityContext) -> bytes:
    return bytes.fromhex(derive_secret(context.secret, "refresh tokens"))


async def revoke_session(context: IdentityContext, token: str) -> str | None:
    """Sign out: whoever has any refresh token of the session may end it. Other tokens end nothing (RFC 7009). The
    sealed ID token, when the session began at an outside issuer.
    """
    refresh = RefreshToken.decode(token, derive_refresh_key(context))
    if refresh is None:
        return None
    async with context.database.unit_of_work() as uow:
        revoked = await store.revoke_session(uow, refresh.session, context.clock())
        if revoked is None:
            return None
        user = f"user:{revoked.user_id}"
        record_audit(uow, "session.revoked", user, actor=user, session=str(refresh.session))
    return revoked.id_token
