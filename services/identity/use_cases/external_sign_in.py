"""Sign in with a browser at the outside issuer: the browser goes there and comes back with a code, and the shop opens
one of its own sessions.

What belongs to one sign-in is sealed in a cookie of the browser that began it, for ten minutes and one use: nobody can
have another's browser finish a sign-in that is not its own.
"""

import hmac
import secrets
from dataclasses import asdict, dataclass
from datetime import timedelta

import orjson

from caravan.audit import record_audit
from caravan.clock import new_id
from caravan.derivation import derive_secret
from caravan.errors import BadRequest, NotFound, Problem, Unauthorized
from caravan.telemetry import log
from services.identity.claims import read_profile
from services.identity.model import RefreshToken, SignInRefused, compute_fingerprint
from services.identity.providers.code_flow import CodeFlow, IssuedIdentity, PendingSignIn
from services.identity.providers.crypto import open_sealed_text, seal_text
from services.identity.providers.issuer_http import IssuerError, IssuerRefusal, IssuerUnavailable
from services.identity.store import external, sessions
from services.identity.use_cases.external_users import sign_in_external_user
from services.identity.use_cases.keys import IdentityContext
from services.identity.use_cases.sessions import derive_refresh_key

LOGIN_PATH = "/v1/auth/login"
PENDING_SECONDS = 600
MAX_PATH_LENGTH = 2000
_OWN_PREFIX = "/v1/auth/"


@dataclass(frozen=True, slots=True)
class IssuerAnswer:
    """What the browser brings back from the issuer."""

    code: str
    state: str
    issuer: str
    error: str


@dataclass(frozen=True, slots=True)
class FinishedSignIn:
    refresh_token: str
    return_to: str


def is_local_path(text: str) -> bool:
    """Whether a browser that is sent there stays at this shop: a path, in which no browser sees a host, and not one
    where it would sign in again.
    """
    return (
        text.startswith("/")
        and not text.startswith(("//", _OWN_PREFIX))
        and len(text) <= MAX_PATH_LENGTH
        and text.isascii()
        and text.isprintable()
        and "\\" not in text
        and " " not in text
    )


def get_flow(context: IdentityContext) -> CodeFlow:
    """Raises NotFound where no issuer is set for browsers."""
    if context.resources.flow is None:
        raise NotFound(
            "this shop has no identity provider to sign in with; IDENTITY_OIDC_CLIENT_ID names it as a client"
        )
    return context.resources.flow


async def begin_sign_in(context: IdentityContext, return_to: str) -> tuple[str, str]:
    """Where the browser goes, and what it keeps until it comes back."""
    flow = get_flow(context)
    if not is_local_path(return_to):
        raise BadRequest("return_to must be a path in this shop, such as /console, and none below /v1/auth/")
    pending = PendingSignIn(
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(32),
        return_to=return_to,
    )
    try:
        url = await flow.build_authorization_url(pending)
    except (IssuerError, TimeoutError) as error:
        raise _build_unavailable(context, error) from error
    return url, seal_text(orjson.dumps(asdict(pending)).decode(), _derive_seal_key(context))


def _derive_seal_key(context: IdentityContext) -> bytes:
    return bytes.fromhex(derive_secret(context.secret, "external sign-ins"))


def _build_unavailable(context: IdentityContext, error: Exception) -> IssuerUnavailable:
    log.warning(
        "the outside issuer can't be used", issuer=context.settings.oidc_issuer, error=str(error) or repr(error)
    )
    return IssuerUnavailable("the identity provider can't be reached; try again in a minute", retry_after=60)


async def finish_sign_in(context: IdentityContext, answer: IssuerAnswer, cookie: str, network: str) -> FinishedSignIn:
    """Raises SignInRefused with the reason, IssuerUnavailable when the issuer can't be asked."""
    flow = get_flow(context)
    opened = open_sealed_text(cookie, _derive_seal_key(context), PENDING_SECONDS)
    pending = PendingSignIn(**orjson.loads(opened)) if opened else None
    if pending is None or not hmac.compare_digest(pending.state.encode(), answer.state.encode()):
        raise SignInRefused("this sign-in was not begun in this browser, or more than ten minutes ago")
    expires_at = context.clock() + timedelta(seconds=PENDING_SECONDS)
    if not await external.use_state(context.database, compute_fingerprint(pending.state), expires_at):
        raise SignInRefused("this sign-in was finished already")
    try:
        identity = await _redeem(context, flow, answer, pending)
        return FinishedSignIn(await _open_session(context, identity, network), pending.return_to)
    except Problem as problem:
        async with context.database.unit_of_work() as uow:
            record_audit(
                uow,
                "login.failed",
                "user:unknown",
                result="refused",
                reason=problem.detail,
                network=network,
                issuer=context.settings.oidc_issuer,
            )
        if isinstance(problem, Unauthorized):
            raise SignInRefused(problem.detail) from None
        raise


async def _redeem(
    context: IdentityContext, flow: CodeFlow, answer: IssuerAnswer, pending: PendingSignIn
) -> IssuedIdentity:
    if not flow.is_answer_of_issuer(answer.issuer):
        raise Unauthorized("the answer is not that of the identity provider that was asked")
    if answer.error or not answer.code:
        raise Unauthorized(_describe_refusal(answer.error))
    try:
        return await flow.redeem_code(answer.code, pending, context.clock().timestamp())
    except IssuerRefusal as refusal:
        log.warning("the outside issuer refused a code", issuer=context.settings.oidc_issuer, error=refusal.code[:100])
        raise Unauthorized(_describe_refusal(refusal.code)) from refusal
    except (IssuerError, TimeoutError) as error:
        raise _build_unavailable(context, error) from error


def _describe_refusal(code: str) -> str:
    """The issuer's code, when it has the form of one: what a link can hold is nobody's word on our page."""
    is_code = 0 < len(code) <= 40 and code.isascii() and code.replace("_", "").isalpha()
    return f"the identity provider refused it ({code})" if is_code else "the identity provider refused it"


async def _open_session(context: IdentityContext, identity: IssuedIdentity, network: str) -> str:
    """The first refresh token of a new session. Raises Unauthorized for who may not sign in."""
    session, now, settings = new_id(), context.clock(), context.settings
    profile = read_profile(identity.claims, settings, now.timestamp())
    async with context.database.unit_of_work() as uow:
        result = await sign_in_external_user(context, uow, profile, str(session))
        if not result.refusal:
            await sessions.insert_session(
                uow,
                session,
                result.account,
                network,
                now,
                now + timedelta(hours=settings.oidc_session_hours),
                seal_text(identity.id_token, _derive_seal_key(context)),
            )
    if result.refusal:
        raise Unauthorized(result.refusal)
    return RefreshToken(session, 1).encode(derive_refresh_key(context))


def build_end_session_url(context: IdentityContext, sealed_id_token: str | None) -> str:
    """Where the browser signs out at the issuer, too; empty when the session didn't begin there, or there is no such
    page.
    """
    flow = context.resources.flow
    if flow is None or not sealed_id_token:
        return ""
    id_token = open_sealed_text(sealed_id_token, _derive_seal_key(context))
    return flow.build_end_session_url(id_token, f"{context.url}/") if id_token else ""
