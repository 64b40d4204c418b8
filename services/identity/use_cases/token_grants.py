"""The grants of the token endpoint (OAuth 2.0; RFC 6749 and RFC 8693)."""

import hmac
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from caravan.audit import record_audit
from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.errors import Unauthorized
from caravan.passwords import normalize_password
from services.identity.metrics import TOKEN_REQUESTS
from services.identity.model import (
    CLIENT_SESSION_PREFIX,
    OPERATOR_CLIENT,
    Account,
    Device,
    InvalidClientError,
    RefreshToken,
    TokenRequestError,
    normalize_email,
)
from services.identity.schemas import Tokens
from services.identity.store import accounts, sessions
from services.identity.use_cases.alerts import send_alert
from services.identity.use_cases.keys import IdentityContext, issue_access_token
from services.identity.use_cases.login_attempts import begin_attempt, fail_attempt, pass_attempt, remember_device
from services.identity.use_cases.sessions import derive_refresh_key, require_open_session

Form = Mapping[str, str]

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN_TYPE = "urn:ietf:params:oauth:token-type:access_token"
WRONG_CREDENTIALS = "the e-mail or the password is wrong"
CLIENT_ID_PATTERN = re.compile(r"[a-z][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """Where a request comes from: the client's network, and the device when it has signed in before."""

    network: str
    device: Device | None = None


@dataclass(frozen=True, slots=True)
class GrantResult:
    """Tokens, and after a sign-in what the device keeps to be known at the next one."""

    tokens: Tokens
    device: str | None = None


async def grant_tokens(context: IdentityContext, form: Form, origin: RequestOrigin) -> GrantResult:
    """Raises GrantRefused or ClientRefused with the error codes of the RFCs."""
    name = _require_field(form, "grant_type")
    grant = GRANTS.get(name)
    if grant is None:
        raise TokenRequestError("unsupported_grant_type", f"grant_type must be one of {', '.join(GRANTS)}")
    label = name.rpartition(":")[2]
    try:
        result = await grant(context, form, origin)
    except Exception:
        TOKEN_REQUESTS.labels(label, "refused").inc()
        raise
    TOKEN_REQUESTS.labels(label, "granted").inc()
    return result


def _require_field(form: Form, field: str) -> str:
    value = form.get(field)
    if not value:
        raise TokenRequestError("invalid_request", f"the field {field} is missing")
    return value


async def _grant_by_password(context: IdentityContext, form: Form, origin: RequestOrigin) -> GrantResult:
    network = origin.network
    email, password = normalize_email(_require_field(form, "username")), _require_field(form, "password")
    attempt = await begin_attempt(context, email, network, origin.device)
    account = await accounts.find_by_email(context.database, email)
    is_right, new_hash = await context.resources.hasher.verify_password(
        normalize_password(password), account.password if account else None
    )
    if account is None or not is_right or account.disabled:
        fail_attempt()
        async with context.database.unit_of_work() as uow:
            reason = "unknown user" if account is None else "wrong password" if not is_right else "disabled"
            record_audit(
                uow,
                "login.failed",
                f"user:{account.id if account else 'unknown'}",
                result="refused",
                reason=reason,
                network=network,
            )
        raise TokenRequestError("invalid_grant", "the account is disabled" if is_right else WRONG_CREDENTIALS)
    session, now = new_id(), context.clock()
    async with context.database.unit_of_work() as uow:
        if not await sessions.insert_session(
            uow, session, account, network, now, now + timedelta(days=context.settings.session_days)
        ):
            raise TokenRequestError("invalid_grant", WRONG_CREDENTIALS)
        await pass_attempt(uow, attempt)
        record_audit(
            uow,
            "login.succeeded",
            f"user:{account.id}",
            actor=f"{account.role}:{account.id}",
            session=str(session),
            network=network,
        )
    if new_hash and account.password:
        await accounts.replace_password_hash(context.database, account.id, account.password, new_hash)
    tokens = _build_tokens(context, account.id, account.role, RefreshToken(session, 1))
    return GrantResult(tokens, remember_device(context, account, origin.device))


async def _grant_by_refresh(context: IdentityContext, form: Form, _: RequestOrigin) -> GrantResult:
    """Rotate. A token that was used before ends the session, also when both uses come at the same moment: which of them
    was the owner's can't be told.
    """
    token = RefreshToken.decode(_require_field(form, "refresh_token"), derive_refresh_key(context))
    if token is None:
        raise TokenRequestError("invalid_grant", "this is not a refresh token")
    user = await sessions.advance_generation(context.database, token.session, token.generation, context.clock())
    if user is None:
        await _revoke_if_reused(context, token)
        raise TokenRequestError("invalid_grant", "the session has ended; sign in again")
    return GrantResult(_build_tokens(context, user.id, user.role, RefreshToken(token.session, token.generation + 1)))


async def _revoke_if_reused(context: IdentityContext, token: RefreshToken) -> None:
    async with context.database.unit_of_work() as uow:
        user_id = await sessions.revoke_reused_session(uow, token.session, token.generation, context.clock())
        if user_id is None:
            return
        account = await accounts.lock_account(uow, user_id)
        assert account is not None
        send_alert(uow, account, "session_reuse", f"session:{token.session}")
        record_audit(uow, "session.reuse", f"user:{user_id}", result="revoked", session=str(token.session))


def _build_tokens(context: IdentityContext, user_id: UUID, role: str, refresh: RefreshToken) -> Tokens:
    return Tokens(
        access_token=issue_access_token(context, subject=str(user_id), role=role, session=str(refresh.session)),
        expires_in=context.settings.access_token_seconds,
        refresh_token=refresh.encode(derive_refresh_key(context)),
    )


async def _grant_to_client(context: IdentityContext, form: Form, origin: RequestOrigin) -> GrantResult:
    client, secret = _require_field(form, "client_id"), _require_field(form, "client_secret")
    is_known = CLIENT_ID_PATTERN.fullmatch(client) is not None and hmac.compare_digest(
        derive_secret(context.secret, f"client:{client}").encode(), secret.encode()
    )
    role = "admin" if client == OPERATOR_CLIENT else "service"
    target = f"client:{client if is_known else 'unknown'}"
    async with context.database.unit_of_work() as uow:
        if is_known:
            record_audit(uow, "login.succeeded", target, actor=f"{role}:{client}", network=origin.network)
        else:
            record_audit(
                uow,
                "login.failed",
                target,
                result="refused",
                reason="wrong client id or secret",
                network=origin.network,
            )
    if not is_known:
        raise InvalidClientError
    token = issue_access_token(context, subject=client, role=role, session=CLIENT_SESSION_PREFIX + client)
    return GrantResult(Tokens(access_token=token, expires_in=context.settings.access_token_seconds))


async def _grant_by_exchange(context: IdentityContext, form: Form, _: RequestOrigin) -> GrantResult:
    """An admin's access token for one that acts in a customer's name. It names both, lives in the admin's session, and
    can't be refreshed.
    """
    if _require_field(form, "subject_token_type") != ACCESS_TOKEN_TYPE:
        raise TokenRequestError("invalid_request", f"subject_token_type must be {ACCESS_TOKEN_TYPE}")
    try:
        admin = await context.verifier.verify(_require_field(form, "subject_token"))
        await require_open_session(context, admin)
    except Unauthorized as error:
        raise TokenRequestError("invalid_grant", f"subject_token: {error.detail}") from None
    if admin.role != "admin" or admin.actor is not None:
        raise TokenRequestError("unauthorized_client", "only an admin may act in the name of a customer")
    account = await _find_requested_account(context, _require_field(form, "requested_subject"))
    async with context.database.unit_of_work() as uow:
        record_audit(uow, "token.exchanged", f"user:{account.id}", actor=admin.audit_name)
    token = issue_access_token(
        context, subject=str(account.id), role=account.role, session=admin.session, actor=admin.audit_name
    )
    return GrantResult(
        Tokens(
            access_token=token, expires_in=context.settings.access_token_seconds, issued_token_type=ACCESS_TOKEN_TYPE
        )
    )


async def _find_requested_account(context: IdentityContext, subject: str) -> Account:
    try:
        account = await accounts.get_account(context.database, UUID(subject))
    except ValueError:
        account = await accounts.find_by_email(context.database, normalize_email(subject))
    if account is None or account.disabled or account.role != "customer":
        raise TokenRequestError(
            "invalid_request", "requested_subject must be the id or the e-mail of a customer who is not disabled"
        )
    return account


GRANTS: Mapping[str, Callable[[IdentityContext, Form, RequestOrigin], Awaitable[GrantResult]]] = {
    "password": _grant_by_password,
    "refresh_token": _grant_by_refresh,
    "client_credentials": _grant_to_client,
    TOKEN_EXCHANGE: _grant_by_exchange,
}
