"""The routes of the console, made from `registry.py`: each page, its actions and its live events.

Before anything is shown or done: who is signed in, whether the role may, and for an action whether a page of ours sent
it. The API decides again, and what it refuses is shown as it says.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from caravan.auth import Role
from caravan.errors import Forbidden, NotFound
from caravan.http import FREE_PARAMETERS, EventStream, convert_to_problem
from services.gateway.console import registration, sign_in
from services.gateway.console.api_client import ApiClient, ApiRefused, fill_path
from services.gateway.console.disclosure import record_disclosure
from services.gateway.console.frame import Frame, has_role, redirect_to, redirect_to_sign_in
from services.gateway.console.origin import is_from_elsewhere, read_local_target, require_same_origin
from services.gateway.console.page import Action, Download, Page, PageRequest, Redirect
from services.gateway.console.registry import HOME, PAGES
from services.gateway.console.rendering import MEDIA_TYPES, SECURITY_HEADERS, load_asset, render_response
from services.gateway.console.session import DISCLOSURE_COOKIE, SESSION_COOKIE, Session
from services.gateway.console.setup import Console

FORM_TOKEN_FIELD = "form_token"
NOT_IN_SCHEMA: dict[str, Any] = {"include_in_schema": False, "openapi_extra": {FREE_PARAMETERS: ""}}
router = APIRouter()
_FILE_HEADERS = {"content-type", "content-disposition"}


@dataclass(frozen=True, slots=True)
class Visit:
    """A request of somebody who is signed in."""

    request: Request
    console: Console
    session: Session
    api: ApiClient
    frame: Frame

    def build_page_request(self, form: dict[str, str]) -> PageRequest:
        disclosure = self.request.cookies.get(DISCLOSURE_COOKIE, "")
        return PageRequest(
            self.api,
            self.session,
            dict(self.request.path_params),
            dict(self.request.query_params),
            partial(record_disclosure, self.console.context, self.session),
            self.console.seal.read_disclosure(self.session, disclosure),
            form,
        )

    def require_role(self, role: Role, what: str) -> None:
        if not has_role(self.session, role):
            raise Forbidden(f"{what} is for {role}; you are {self.session.role}")

    async def read_action_form(self) -> dict[str, str]:
        """Raises Forbidden for a form that no page of this session has made."""
        require_same_origin(self.request, is_https=self.console.is_https)
        form = await sign_in.read_form(self.request)
        if not self.console.seal.is_form_token(self.session, form.pop(FORM_TOKEN_FIELD, "")):
            raise Forbidden("this form is not of your present session; open the page again and press the button there")
        return form


async def answer_visit(request: Request, answer: Callable[[Visit], Awaitable[Response]]) -> Response:
    """What `answer` makes for whoever is signed in; a page also for what is refused or fails."""
    console: Console = request.app.state.console
    cookie = request.cookies.get(SESSION_COOKIE, "")
    session: Session | None = None
    try:
        session = await console.sessions.open_session(request, ApiClient(console.public_app, request))
        if session is None:
            return _refuse_stranger(request, console, cookie)
        api = ApiClient(console.public_app, request, session.access_token)
        response = await answer(
            Visit(request, console, session, api, Frame(request, console.seal, session, console.links))
        )
    except ApiRefused as refused:
        if refused.status == 401:
            return _refuse_stranger(request, console, cookie)
        response = Frame(request, console.seal, session, console.links).render_error(refused)
    except Exception as error:
        problem = convert_to_problem(error, request.url.path)
        response = Frame(request, console.seal, session, console.links).render_error(problem)
    if session is not None and session != console.seal.read_session(cookie) and not _sets_session(response):
        console.seal.write_session(response, session)
    return response


def _refuse_stranger(request: Request, console: Console, cookie: str) -> Response:
    if not cookie and request.method == "GET" and is_from_elsewhere(request):
        return render_response("arrival.html", title="Caravan", theme="")
    response = redirect_to_sign_in(request)
    if cookie:
        console.seal.delete_session(response)
    return response


def _sets_session(response: Response) -> bool:
    return any(
        name == b"set-cookie" and value.startswith(f"{SESSION_COOKIE}=".encode())
        for name, value in response.raw_headers
    )


def _add_page(page: Page) -> None:
    async def show(request: Request) -> Response:
        async def load(visit: Visit) -> Response:
            visit.require_role(page.role, "this page")
            try:
                return visit.frame.render_page(page, await page.load(visit.build_page_request({})))
            except Redirect as redirect:
                return redirect_to(read_local_target(redirect.location, HOME))

        return await answer_visit(request, load)

    router.add_api_route(page.path, show, name=f"show_{page.name}", methods=["GET"], **NOT_IN_SCHEMA)


def _add_action(page: Page, action: Action) -> None:
    async def run(request: Request) -> Response:
        async def run_action(visit: Visit) -> Response:
            visit.require_role(action.role, "this action")
            result = await action.run(visit.build_page_request(await visit.read_action_form()))
            response = redirect_to(read_local_target(result.location, HOME))
            visit.console.seal.write_notice(response, result.notice)
            if result.reveals:
                visit.console.seal.write_disclosure(response, visit.session, result.reveals)
            return response

        return await answer_visit(request, run_action)

    name = f"{page.name}_{action.name}".replace("-", "_")
    router.add_api_route(page.build_action_path(action), run, name=name, methods=["POST"], **NOT_IN_SCHEMA)


def _add_download(page: Page, download: Download) -> None:
    async def send_file(request: Request) -> Response:
        async def fetch(visit: Visit) -> Response:
            visit.require_role(page.role, "this file")
            answer = await download.fetch(visit.build_page_request({}))
            if answer.status != 200:
                answer.parse()  # raises what the API says
            kept = {name: value for name, value in answer.headers.items() if name in _FILE_HEADERS}
            return Response(answer.body, headers={**SECURITY_HEADERS, "Cache-Control": "no-store", **kept})

        return await answer_visit(request, fetch)

    name = f"{page.name}_{download.name}".replace("-", "_").replace(".", "_")
    router.add_api_route(f"{page.path}/{download.name}", send_file, name=name, methods=["GET"], **NOT_IN_SCHEMA)


def _add_live_events(page: Page) -> None:
    async def stream(request: Request) -> Response:
        async def open_events(visit: Visit) -> Response:
            visit.require_role(page.role, "this page")
            path = fill_path(page.live_path, **request.path_params)
            last_event = request.headers.get("last-event-id") or request.query_params.get("after", "")
            headers = {"last-event-id": last_event} if last_event.isdigit() else {}
            answer, parts = await visit.api.open_stream(path, headers)
            if answer.status != 200:
                await parts.aclose()
                return Response(status_code=answer.status)
            return EventStream(parts)

        return await answer_visit(request, open_events)

    router.add_api_route(page.live_url, stream, name=f"stream_{page.name}", methods=["GET"], **NOT_IN_SCHEMA)


for _page in PAGES:
    _add_page(_page)
    for _action in _page.actions:
        _add_action(_page, _action)
    for _download in _page.downloads:
        _add_download(_page, _download)
    if _page.live_path:
        _add_live_events(_page)


@router.get("/console", **NOT_IN_SCHEMA)
async def show_home(request: Request) -> Response:
    return redirect_to(HOME)


@router.post("/console/sign-out", **NOT_IN_SCHEMA)
async def sign_out(request: Request) -> Response:
    async def end_session(visit: Visit) -> Response:
        await visit.read_action_form()
        return await sign_in.sign_out(visit.console, visit.api, visit.session)

    return await answer_visit(request, end_session)


@router.get("/console/static/{name}", **NOT_IN_SCHEMA)
async def get_asset(name: str) -> Response:
    content = load_asset(name)
    if content is None:
        raise NotFound("there is no such file")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
    media_type = next(kind for ending, kind in MEDIA_TYPES.items() if name.endswith(ending))
    return Response(content, headers=headers, media_type=media_type)


async def show_unknown(request: Request) -> Response:
    async def refuse(_: Visit) -> Response:
        raise NotFound("the console has no such page; what there is stands in the navigation")

    return await answer_visit(request, refuse)


for _path in ("/console/{part}", "/console/{part}/{rest}"):
    router.add_api_route(_path, show_unknown, name="show_unknown", methods=["GET"], **NOT_IN_SCHEMA)

router.routes[:0] = [*sign_in.router.routes, *registration.router.routes]
