"""The token endpoint: OAuth 2.0 grants in, tokens out (RFC 6749 and RFC 8693)."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter

from caravan.audit import audit
from caravan.clock import new_id
from caravan.derivation import derive
from caravan.errors import Unauthorized
from caravan.passwords import normal_password
from services.identity.model import (
    CLIENT_SESSION,
    OPERATOR,
    Account,
    ClientRefused,
    Device,
    GrantRefused,
    RefreshToken,
    normal_email,
)
from services.identity.schemas import Tokens
from services.identity.store import accounts, sessions
from services.identity.use_cases.alerts import alert
from services.identity.use_cases.keys import Identity, access_token
from services.identity.use_cases.sessions import refresh_key, require_open_session
from services.identity.use_cases.tries import begin_try, fail_try, pass_try, remember_device

Form = Mapping[str, str]

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
WRONG = "the e-mail or the password is wrong"
CLIENT_ID = re.compile(r"[a-z][a-z0-9-]{0,39}")

GRANTED = Counter("caravan_token_requests", "Token requests by grant: granted or refused", ["grant", "result"])


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a request comes from: the client's network, and the device when it has signed in before."""

    network: str
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """Tokens, and after a sign-in what the device keeps to be known at the next one."""

    tokens: Tokens
    device: str | None = None


async def grant_tokens(context: Identity, form: Form, origin: Origin) -> Granted:
    """Raises GrantRefused or ClientRefused with the error codes of the RFCs."""
    name = _need(form, "grant_type")
    grant = GRANTS.get(name)
    if grant is None:
        raise GrantRefused("unsupported_grant_type", f"grant_type must be one of {', '.join(GRANTS)}")
    label = name.rpartition(":")[2]
    try:
        granted = await grant(context, form, origin)
    except Exception:
        GRANTED.labels(label, "refused").inc()
        raise
    GRANTED.labels(label, "granted").inc()
    return granted


def _need(form: Form, field: str) -> str:
    value = form.get(field)
    if not value:
        raise GrantRefused("invalid_request", f"the field {field} is missing")
    return value


async def _password(context: Identity, form: Form, origin: Origin) -> Granted:
    network = origin.network
    email, password = normal_email(_need(form, "username")), _need(form, "password")
    given = await begin_try(context, email, network, origin.device)
    account = await accounts.find(context.database, email)
    right, better = await context.parts.hasher.verify(normal_password(password), account.password if account else None)
    if account is None or not right or account.disabled:
        fail_try()
        async with context.database.work() as work:
            reason = "unknown user" if account is None else "wrong password" if not right else "disabled"
            audit(work, "login.failed", f"user:{account.id if account else 'unknown'}", result="refused", reason=reason, network=network)
        raise GrantRefused("invalid_grant", "the account is disabled" if right else WRONG)
    session, now = new_id(), context.clock()
    async with context.database.work() as work:
        if not await sessions.insert(work, session, account, network, now, now + timedelta(days=context.settings.session_days)):
            raise GrantRefused("invalid_grant", WRONG)
        await pass_try(work, given)
        audit(work, "login.succeeded", f"user:{account.id}", actor=f"{account.role}:{account.id}", session=str(session), network=network)
    if better and account.password:
        await accounts.rehash(context.database, account.id, account.password, better)
    tokens = _tokens(context, account.id, account.role, RefreshToken(session, 1))
    return Granted(tokens, remember_device(context, account, origin.device))


async def _refresh(context: Identity, form: Form, _: Origin) -> Granted:
    """Rotate. A token that was used before ends the session, also when both uses come at the same moment: which of them was the owner's can't be told."""
    token = RefreshToken.read(_need(form, "refresh_token"), refresh_key(context))
    if token is None:
        raise GrantRefused("invalid_grant", "this is not a refresh token")
    row = await sessions.advance(context.database, token.session, token.generation, context.clock())
    if row is None:
        await _end_when_reused(context, token)
        raise GrantRefused("invalid_grant", "the session has ended; sign in again")
    return Granted(_tokens(context, row["id"], row["role"], RefreshToken(token.session, token.generation + 1)))


async def _end_when_reused(context: Identity, token: RefreshToken) -> None:
    async with context.database.work() as work:
        user_id = await sessions.revoke_reused(work, token.session, token.generation, context.clock())
        if user_id is None:
            return
        account = await accounts.lock(work, user_id)
        assert account is not None
        alert(work, account, "session_reuse", f"session:{token.session}")
        audit(work, "session.reuse", f"user:{user_id}", result="revoked", session=str(token.session))


def _tokens(context: Identity, user_id: UUID, role: str, refresh: RefreshToken) -> Tokens:
    return Tokens(
        access_token=access_token(context, subject=str(user_id), role=role, session=str(refresh.session)),
        expires_in=context.settings.access_seconds,
        refresh_token=refresh.write(refresh_key(context)),
    )


async def _client(context: Identity, form: Form, origin: Origin) -> Granted:
    client, secret = _need(form, "client_id"), _need(form, "client_secret")
    known = CLIENT_ID.fullmatch(client) is not None and hmac.compare_digest(
        derive(context.secret, f"client:{client}").encode(), secret.encode()
    )
    role = "admin" if client == OPERATOR else "service"
    target = f"client:{client if known else 'unknown'}"
    async with context.database.work() as work:
        if known:
            audit(work, "login.succeeded", target, actor=f"{role}:{client}", network=origin.network)
        else:
            audit(work, "login.failed", target, result="refused", reason="wrong client id or secret", network=origin.network)
    if not known:
        raise ClientRefused
    token = access_token(context, subject=client, role=role, session=CLIENT_SESSION + client)
    return Granted(Tokens(access_token=token, expires_in=context.settings.access_seconds))


async def _exchange(context: Identity, form: Form, _: Origin) -> Granted:
    """An admin's access token for one that acts in a customer's name. It names both, lives in the admin's session, and can't be refreshed."""
    if _need(form, "subject_token_type") != ACCESS_TOKEN:
        raise GrantRefused("invalid_request", f"subject_token_type must be {ACCESS_TOKEN}")
    try:
        admin = await context.verifier.verify(_need(form, "subject_token"))
        await require_open_session(context, admin)
    except Unauthorized as error:
        raise GrantRefused("invalid_grant", f"subject_token: {error.detail}") from None
    if admin.role != "admin" or admin.actor is not None:
        raise GrantRefused("unauthorized_client", "only an admin may act in the name of a customer")
    account = await _requested(context, _need(form, "requested_subject"))
    async with context.database.work() as work:
        audit(work, "token.exchanged", f"user:{account.id}", actor=admin.name)
    token = access_token(context, subject=str(account.id), role=account.role, session=admin.session, actor=admin.name)
    return Granted(Tokens(access_token=token, expires_in=context.settings.access_seconds, issued_token_type=ACCESS_TOKEN))


async def _requested(context: Identity, subject: str) -> Account:
    try:
        account = await accounts.get(context.database, UUID(subject))
    except ValueError:
        account = await accounts.find(context.database, normal_email(subject))
    if account is None or account.disabled or account.role != "customer":
        raise GrantRefused("invalid_request", "requested_subject must be the id or the e-mail of a customer who is not disabled")
    return account


GRANTS: Mapping[str, Callable[[Identity, Form, Origin], Awaitable[Granted]]] = {
    "password": _password,
    "refresh_token": _refresh,
    "client_credentials": _client,
    EXCHANGE: _exchange,
}
