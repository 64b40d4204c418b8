"""Signing in to the console, with a password or at the outside issuer where there is one, and out again.

The answer of the token endpoint becomes a session in `open_new_session`, whichever grant brought it.
"""

from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode

from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.errors import Problem
from caravan.http import FREE_PARAMETERS
from services.gateway.console.api_client import Answer, ApiClient, ApiRefused
from services.gateway.console.frame import SIGN_IN_PATH, Frame, redirect_to
from services.gateway.console.origin import read_local_target, require_same_origin
from services.gateway.console.registry import HOME
from services.gateway.console.rendering import render_response
from services.gateway.console.renewal import build_renewed_session
from services.gateway.console.session import SESSION_COOKIE, Session, create_session
from services.gateway.console.setup import Console

DEVICE_COOKIE = "caravan-device"
"""Identity's, which makes this browser known to it: the console passes it on under its own path."""
SIGNED_IN_PATH = "/console/signed-in"
"""Where identity sends a browser back that has signed in at the outside issuer."""
SIGN_IN_COOKIE = "caravan-sign-in"
"""Identity's, with the first refresh token of that session."""
MAX_FIELDS = 50
router = APIRouter()


@router.get(SIGN_IN_PATH, include_in_schema=False, openapi_extra={FREE_PARAMETERS: ""})
async def show_sign_in(request: Request) -> Response:
    console: Console = request.app.state.console
    target = read_local_target(request.query_params.get("next", ""), HOME)
    if console.seal.read_session(request.cookies.get(SESSION_COOKIE, "")):
        return redirect_to(target)
    return await _render_form(request, console, target)


@router.post(SIGN_IN_PATH, include_in_schema=False, openapi_extra={FREE_PARAMETERS: ""})
async def sign_in(request: Request) -> Response:
    console: Console = request.app.state.console
    try:
        require_same_origin(request, is_https=console.is_https)
        form = await read_form(request)
        target = read_local_target(form.get("next", ""), HOME)
        session, response = await request_session(
            console, request, form.get("email", ""), form.get("password", ""), target
        )
    except ApiRefused as refused:
        return await _render_form(request, console, target, form.get("email", ""), refused.status, refused.problem)
    except Problem as error:
        return Frame(request, console.seal, None).render_error(error)
    console.seal.write_session(response, session)
    return response


async def request_session(
    console: Console, request: Request, email: str, password: str, target: str
) -> tuple[Session, Response]:
    """Of whoever has this password, and the redirect to `target`, which makes the browser known to identity. Raises
    ApiRefused.
    """
    api = ApiClient(console.public_app, request)
    answer = await api.post_form(
        "/v1/auth/token",
        {"grant_type": "password", "username": email, "password": password},
        {"cookie": f"{DEVICE_COOKIE}={request.cookies[DEVICE_COOKIE]}"} if DEVICE_COOKIE in request.cookies else {},
    )
    session = await open_new_session(console, request, answer)
    response = redirect_to(target)
    _pass_device_cookie(answer, response, is_https=console.is_https)
    return session, response


@router.get(SIGNED_IN_PATH, include_in_schema=False, openapi_extra={FREE_PARAMETERS: ""})
async def finish_sign_in(request: Request) -> Response:
    """The issuer's page was the one before, so the browser sends the session's cookie only with the request after
    this one: a page that goes on by itself.
    """
    console: Console = request.app.state.console
    target = read_local_target(request.query_params.get("next", ""), HOME)
    token = request.cookies.get(SIGN_IN_COOKIE, "")
    if not token:
        return redirect_to(SIGN_IN_PATH)
    try:
        api = ApiClient(console.public_app, request)
        answer = await api.post_form("/v1/auth/token", {"grant_type": "refresh_token", "refresh_token": token})
        session = await open_new_session(console, request, answer)
    except ApiRefused as refused:
        response = await _render_form(request, console, target, "", refused.status, refused.problem)
    except Problem as error:
        return Frame(request, console.seal, None).render_error(error)
    else:
        response = render_response("arrival.html", title="Signed in", theme="", target=target)
        console.seal.write_session(response, session)
    response.delete_cookie(SIGN_IN_COOKIE, path="/")
    return response


async def sign_out(console: Console, api: ApiClient, session: Session) -> Response:
    """The session ends in the whole shop, not in this browser alone. One that began at the outside issuer may go on
    there: the page has a link to its end.
    """
    ended = await api.post("/v1/auth/revoke", {"token": session.refresh_token}) or {}
    issuer_url = ended.get("end_session_url")
    if issuer_url:
        response = render_response("signed_out.html", title="Signed out", theme="", issuer_url=issuer_url)
    else:
        response = redirect_to(SIGN_IN_PATH)
    console.seal.delete_session(response)
    return response


async def open_new_session(console: Console, request: Request, answer: Answer) -> Session:
    """The session of whoever got this answer from the token endpoint. Raises ApiRefused."""
    tokens = answer.parse()
    session = await build_renewed_session(console.context, create_session("", "", 0.0, "customer", ""), answer)
    profile: dict[str, Any] = await ApiClient(console.public_app, request, tokens["access_token"]).get("/v1/users/me")
    return create_session(
        session.access_token, session.refresh_token, session.expires_at, session.role, profile["name"]
    )


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form; of two with one name the last."""
    try:
        text = (await request.body()).decode()
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="strict"))
    except ValueError:
        return {}


async def _render_form(
    request: Request, console: Console, target: str, email: str = "", status: int = 200, problem: Any = None
) -> Response:
    return Frame(request, console.seal, None).render(
        "sign_in.html",
        "Sign in",
        status,
        target=target,
        email=email,
        problem=problem,
        providers=await _list_providers(ApiClient(console.public_app, request), target),
    )


async def _list_providers(api: ApiClient, target: str) -> list[dict[str, str]]:
    """Other places to sign in at: none where identity can't say."""
    answer = await api.send("GET", "/v1/auth/providers")
    if answer.status != 200:
        return []
    query = urlencode({"return_to": f"{SIGNED_IN_PATH}?{urlencode({'next': target})}"})
    return [
        {"label": provider["label"], "url": f"{provider['login_path']}?{query}"} for provider in answer.parse()["items"]
    ]


def _pass_device_cookie(answer: Answer, response: Response, *, is_https: bool) -> None:
    cookies: SimpleCookie = SimpleCookie(answer.headers.get("set-cookie", ""))
    if DEVICE_COOKIE in cookies:
        device = cookies[DEVICE_COOKIE]
        response.set_cookie(
            DEVICE_COOKIE,
            device.value,
            int(device["max-age"] or 0),
            path=SIGN_IN_PATH,
            secure=is_https,
            httponly=True,
            samesite="strict",
        )
