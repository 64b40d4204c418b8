"""What all pages of the console have around them: navigation, messages, and how a refusal or a failure looks."""

from typing import Any
from urllib.parse import urlencode

from fastapi.responses import RedirectResponse, Response
from starlette.requests import Request

from caravan import telemetry
from caravan.auth import Role
from caravan.errors import Problem
from services.gateway.console.api_client import ApiRefused
from services.gateway.console.observability_links import NO_LINKS, ObservabilityLinks
from services.gateway.console.page import Page
from services.gateway.console.registry import list_sections
from services.gateway.console.rendering import SECURITY_HEADERS, render_response
from services.gateway.console.session import NOTICE_COOKIE, Session, SessionSeal

RANKS: dict[str, int] = {"customer": 1, "staff": 2, "admin": 3}
SIGN_IN_PATH = "/console/sign-in"
TITLES = {
    403: "Not for your role",
    404: "Not here",
    429: "Too many requests",
    503: "A part of the shop is unavailable",
    504: "No answer in time",
}


def has_role(session: Session, role: Role) -> bool:
    return RANKS.get(session.role, 0) >= RANKS[role]


class Frame:
    """Renders for one request."""

    def __init__(
        self, request: Request, seal: SessionSeal, session: Session | None, links: ObservabilityLinks = NO_LINKS
    ) -> None:
        self._request = request
        self._seal = seal
        self._links = links
        self._session = session

    def render(self, template: str, title: str, status: int = 200, **variables: Any) -> Response:
        session = self._session
        notice = self._seal.read_notice(self._request.cookies.get(NOTICE_COOKIE, ""))
        sections = {
            name: shown
            for name, pages in list_sections().items()
            if (shown := [page for page in pages if session and has_role(session, page.role)])
        }
        response = render_response(
            template,
            status,
            title=title,
            session=session,
            sections=sections,
            notice=notice,
            form_token=self._seal.derive_form_token(session) if session else "",
            theme=_read_theme(self._request),
            location=_read_location(self._request),
            **{"page": None, "live_url": "", "outside": [], "trace_url": self._build_trace_url, **variables},
        )
        if notice:
            response.delete_cookie(NOTICE_COOKIE, path="/console")
        return response

    def render_page(self, page: Page, view: dict[str, Any]) -> Response:
        session = self._session
        allowed = {action.name: action for action in page.actions if session and has_role(session, action.role)}
        live_url = ""
        if page.live_path:
            live_url = f"{page.live_url.format(**self._request.path_params)}?after={view['live_after']}"
        outside = self._links.list_links(page.name, self._request.path_params) if self._sees_operations else []
        variables = {
            "title": page.title,
            "page": page,
            "actions": allowed,
            "live_url": live_url,
            "outside": outside,
            **view,
        }
        return self.render(page.template, **variables)

    @property
    def _sees_operations(self) -> bool:
        """A customer is shown nothing of how the shop is watched."""
        return self._session is not None and has_role(self._session, "staff")

    def _build_trace_url(self, trace_id: str) -> str:
        return self._links.build_trace_url(trace_id) if self._sees_operations else ""

    def render_problem(self, status: int, problem: dict[str, Any], retry_after: str = "") -> Response:
        title = TITLES.get(status) or problem.get("title") or "Something is wrong"
        response = self.render(
            "problem.html",
            title,
            status,
            code=status,
            detail=problem.get("detail", ""),
            errors=problem.get("errors") or [],
            trace_id=problem.get("trace_id") or telemetry.get_trace_id() or "",
            role=self._session.role if self._session else "",
        )
        if retry_after:
            response.headers["Retry-After"] = retry_after
        return response

    def render_error(self, error: Problem | ApiRefused) -> Response:
        if isinstance(error, ApiRefused):
            return self.render_problem(error.status, error.problem, error.retry_after)
        problem = {"title": error.title, "detail": error.detail, "errors": error.errors}
        return self.render_problem(error.status, problem, error.headers.get("Retry-After", ""))


def redirect_to(location: str) -> Response:
    return RedirectResponse(location, 303, {**SECURITY_HEADERS, "Cache-Control": "no-store"})


def redirect_to_sign_in(request: Request) -> Response:
    target = _read_location(request) if request.method == "GET" else ""
    return redirect_to(f"{SIGN_IN_PATH}?{urlencode({'next': target})}" if target else SIGN_IN_PATH)


def _read_location(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _read_theme(request: Request) -> str:
    """As somebody has chosen it; empty: as the machine is set."""
    theme = request.cookies.get("caravan-console-theme", "")
    return theme if theme in ("light", "dark") else ""
