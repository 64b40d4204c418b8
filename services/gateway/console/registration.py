"""A page on which a customer registers: it asks the public API for the account, and signs in with it."""

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.clock import new_id
from caravan.errors import Problem
from caravan.http import FREE_PARAMETERS
from services.gateway.console.api_client import ApiClient, ApiRefused
from services.gateway.console.frame import Frame, redirect_to
from services.gateway.console.origin import read_local_target, require_same_origin
from services.gateway.console.registry import HOME
from services.gateway.console.session import SESSION_COOKIE
from services.gateway.console.setup import Console
from services.gateway.console.sign_in import read_form, request_session

REGISTER_PATH = "/console/register"
FIELDS = ("name", "email", "password")
router = APIRouter()


@router.get(REGISTER_PATH, include_in_schema=False, openapi_extra={FREE_PARAMETERS: ""})
async def show_registration(request: Request) -> Response:
    console: Console = request.app.state.console
    target = read_local_target(request.query_params.get("next", ""), HOME)
    if console.seal.read_session(request.cookies.get(SESSION_COOKIE, "")):
        return redirect_to(target)
    return _render_form(request, console, {"next": target, "key": str(new_id())})


@router.post(REGISTER_PATH, include_in_schema=False, openapi_extra={FREE_PARAMETERS: ""})
async def register(request: Request) -> Response:
    """The form's key makes a second press the same account."""
    console: Console = request.app.state.console
    api = ApiClient(console.public_app, request)
    form: dict[str, str] = {}
    try:
        require_same_origin(request, is_https=console.is_https)
        form = await read_form(request)
        body = {name: form.get(name, "") for name in FIELDS}
        await api.post("/v1/users", body, {"idempotency-key": form.get("key") or str(new_id())})
        session, response = await request_session(
            console, request, body["email"], body["password"], read_local_target(form.get("next", ""), HOME)
        )
    except ApiRefused as refused:
        return _render_form(request, console, form, refused.status, refused.problem)
    except Problem as error:
        return Frame(request, console.seal, None).render_error(error)
    console.seal.write_session(response, session)
    console.seal.write_notice(response, "Welcome. A mail asks whether the address is yours.")
    return response


def _render_form(
    request: Request, console: Console, form: dict[str, str], status: int = 200, problem: Any = None
) -> Response:
    return Frame(request, console.seal, None).render(
        "register.html",
        "Register",
        status,
        target=read_local_target(form.get("next", ""), HOME),
        key=form.get("key") or str(new_id()),
        name=form.get("name", ""),
        email=form.get("email", ""),
        faults=_describe_faults(problem) if problem else [],
    )


def _describe_faults(problem: dict[str, Any]) -> list[str]:
    """One line each, without the name of the API's part that found it."""
    errors = problem.get("errors") or []
    lines = [f"{str(error.get('field', '')).rpartition('.')[2]}: {error.get('rule', '')}" for error in errors]
    return lines or [str(problem.get("detail") or problem.get("title") or "the shop could not register you; try again")]
