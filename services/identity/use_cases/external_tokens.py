"""Access tokens of the outside issuer: whose they are in this shop.

Every process verifies them itself and asks here once for each; here they are verified again, because the answer gives
somebody's rights away.
"""

from caravan.errors import Unauthorized
from caravan.token_issuers import UnverifiedToken
from services.identity.claims import read_profile
from services.identity.client import AcceptedToken, AcceptTokenRequest
from services.identity.model import ExternalSession
from services.identity.providers.issuer_http import IssuerUnavailable
from services.identity.store import external
from services.identity.use_cases.external_users import DISABLED, ENDED, sign_in_external_user
from services.identity.use_cases.keys import IdentityContext

ACCESS_TOKEN_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
"""Of the header's `typ`: a logout token (`logout+jwt`) opens nothing, though it has the same issuer and audience."""


async def refresh_issuer_keys(context: IdentityContext) -> bool:
    if context.resources.provider is not None:
        await context.resources.provider.refresh_keys()
    return False


async def accept_token(context: IdentityContext, request: AcceptTokenRequest) -> AcceptedToken:
    """Raises Unauthorized for a token that is not good, and for a user who may not sign in."""
    provider, settings = context.resources.provider, context.settings
    if provider is None or not settings.oidc_audience:
        raise Unauthorized("the token was not issued for this shop")
    token, now = UnverifiedToken.parse(request.token), context.clock().timestamp()
    await provider.refresh_keys(token.kid)
    if not provider.keys:
        raise IssuerUnavailable(f"the keys of {settings.oidc_issuer} are not known yet; try again", retry_after=5)
    claims = provider.build_issuer(settings.oidc_audience).decode_token(token, now)
    token_type = token.header.get("typ")
    if (token_type.lower() if isinstance(token_type, str) else token_type) not in ACCESS_TOKEN_TYPES:
        raise Unauthorized("the token is not an access token")
    profile = read_profile(claims, settings, now)
    found = await external.find_account(context.database, profile.issuer, profile.subject)
    if found and found.external_signed_in_at and profile.issued_at <= found.external_signed_in_at:
        if found.has_ended(profile.issued_at):
            raise Unauthorized(DISABLED if found.disabled else ENDED)
        user_id, role = found.id, found.role
    else:
        async with context.database.unit_of_work() as uow:
            result = await sign_in_external_user(context, uow, profile)
        if result.refusal:
            raise Unauthorized(result.refusal)
        user_id, role = result.account.id, result.account.role
    return AcceptedToken(
        subject=str(user_id), role=role, session=ExternalSession(user_id, profile.issued_at).format_id()
    )
