"""What a page of the console is, and what it is asked: the types that `registry.py` and `views/` share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from caravan.auth import Role
from services.gateway.console.api_client import ApiClient
from services.gateway.console.session import Session

View = dict[str, Any]
"""The variables of a page's template."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`path` and `query` are the parameters of the page's address, `form` what a form sends."""

    api: ApiClient
    session: Session
    path: dict[str, str]
    query: dict[str, str]
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Where the browser goes on, and what the page there says on top."""

    location: str
    notice: str


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a page: a form that is sent to `<path of the page>/<name>`. `role`: the least that may press it."""

    name: str
    title: str
    role: Role
    run: Callable[[PageRequest], Awaitable[ActionResult]]


@dataclass(frozen=True, slots=True)
class Page:
    """`role`: the least that may open it. `section`: of the navigation, empty for a page that others lead to.
    `live_path`: the public API's stream of events after which the page is shown anew.
    """

    name: str
    path: str
    title: str
    role: Role
    template: str
    load: Callable[[PageRequest], Awaitable[View]]
    section: str = ""
    actions: tuple[Action, ...] = ()
    live_path: str = ""

    @property
    def live_url(self) -> str:
        return f"{self.path}/live"

    def build_action_path(self, action: Action) -> str:
        return f"{self.path}/{action.name}"
