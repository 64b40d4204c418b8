"""Signing in with a browser at the outside issuer: the way there and the way back.

Back from there, the browser has the first refresh token of its session in a cookie that no script can read, for a
minute: the application on this host that it returns to takes it from there (`docs/how-to/sign-in.md`).
"""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup

from caravan.fault_attribution import FAULT_HEADER
from caravan.http import FREE_PARAMETERS, Injected, document_headers, document_html_responses, render_html_page
from services.identity import schemas
from services.identity.api.context import find_network
from services.identity.model import SignInRefused
from services.identity.providers.issuer_http import IssuerUnavailable
from services.identity.use_cases import external_sign_in
from services.identity.use_cases.external_sign_in import LOGIN_PATH, PENDING_SECONDS, IssuerAnswer
from services.identity.use_cases.keys import CALLBACK_PATH, IdentityContext

PENDING_COOKIE = "caravan-login"
SIGN_IN_COOKIE = "caravan-sign-in"
SIGN_IN_SECONDS = 60
MAX_CODE_LENGTH = 4096
_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
_AGAIN = Markup('<p><a href="{}">Sign in again</a></p>')
router = APIRouter(tags=["auth"])


@router.get("/v1/auth/providers", response_model=schemas.IdentityProviders)
async def list_identity_providers(context: Injected[IdentityContext]) -> schemas.IdentityProviders:
    """The identity providers at which a browser can sign in: none, or the one that is set."""
    if context.resources.flow is None:
        return schemas.IdentityProviders(items=[])
    settings = context.settings
    provider = schemas.IdentityProvider(label=settings.oidc_label, issuer=settings.oidc_issuer, login_path=LOGIN_PATH)
    return schemas.IdentityProviders(items=[provider])


@router.get(
    LOGIN_PATH,
    status_code=303,
    responses=document_headers(303, "Location", "Set-Cookie", description="The issuer's page"),
    response_class=Response,
)
async def begin_sign_in(
    context: Injected[IdentityContext],
    return_to: Annotated[
        str,
        Query(
            max_length=external_sign_in.MAX_PATH_LENGTH,
            description="a path in this shop where the browser goes when it has signed in",
            examples=["/console"],
        ),
    ] = "/",
) -> Response:
    """Send the browser to the identity provider (authorization code with PKCE). `return_to` is a path in this shop."""
    url, pending = await external_sign_in.begin_sign_in(context, return_to)
    response = RedirectResponse(url, 303, _HEADERS)
    _set_cookie(context, response, PENDING_COOKIE, pending, PENDING_SECONDS, CALLBACK_PATH)
    return response


@router.get(
    CALLBACK_PATH,
    status_code=303,
    responses={
        **document_headers(303, "Location", "Set-Cookie", description="Signed in: where the browser began"),
        **document_html_responses(s400="A page: why it did not work", s503="A page: the issuer can't be reached"),
    },
    response_class=Response,
    openapi_extra={FREE_PARAMETERS: ""},
)
async def finish_sign_in(
    request: Request,
    context: Injected[IdentityContext],
    state: Annotated[str, Query(max_length=200, description="from this shop's own redirect")] = "",
    code: Annotated[str, Query(max_length=MAX_CODE_LENGTH, description="from the issuer")] = "",
    iss: Annotated[str, Query(max_length=1000, description="the issuer (RFC 9207)")] = "",
    error: Annotated[str, Query(max_length=1000, description="the issuer's, instead of a code")] = "",
) -> Response:
    """Where the identity provider sends the browser back. It has a session then: its first refresh token is in the
    cookie `caravan-sign-in`, for a minute, to be taken from there by the application on this host that it returns to.
    """
    answer = IssuerAnswer(code=code, state=state, issuer=iss, error=error)
    response: Response
    try:
        finished = await external_sign_in.finish_sign_in(
            context, answer, request.cookies.get(PENDING_COOKIE, ""), find_network(request, context)
        )
    except (SignInRefused, IssuerUnavailable) as problem:
        response = render_html_page(
            "You are not signed in",
            problem.detail[:1].upper() + problem.detail[1:] + ".",
            _AGAIN.format(LOGIN_PATH),
            status=problem.status,
        )
        if problem.fault:
            response.headers[FAULT_HEADER] = problem.fault
    else:
        response = RedirectResponse(finished.return_to, 303, _HEADERS)
        _set_cookie(context, response, SIGN_IN_COOKIE, finished.refresh_token, SIGN_IN_SECONDS, "/")
    response.delete_cookie(PENDING_COOKIE, path=CALLBACK_PATH)
    return response


def _set_cookie(context: IdentityContext, response: Response, name: str, value: str, max_age: int, path: str) -> None:
    """Lax: the issuer sends the browser here from another site."""
    secure = context.url.startswith("https:")
    response.set_cookie(name, value, max_age, path=path, secure=secure, httponly=True, samesite="lax")
