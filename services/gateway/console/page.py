"""What a page of the console is, and what it is asked: the types that `registry.py` and `views/` share."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from caravan.auth import Role
from services.gateway.console.api_client import Answer, ApiClient
from services.gateway.console.session import Session

View = dict[str, Any]
"""The variables of a page's template."""


class Redirect(Exception):
    """Another page of the console shows what was asked for."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.location = location


@dataclass(frozen=True, slots=True)
class PageRequest:
    """`path` and `query` are the parameters of the page's address, `form` what a form sends. `revealed`: whose personal
    data this session has asked to see; `record_disclosure` writes into the audit log that it asks for some.
    """

    api: ApiClient
    session: Session
    path: dict[str, str]
    query: dict[str, str]
    record_disclosure: Callable[[str], Awaitable[None]]
    revealed: str = ""
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionResult:
    """Where the browser goes on, and what the page there says on top. `reveals`: whose personal data it then shows."""

    location: str
    notice: str
    reveals: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """A button of a page: a form that is sent to `<path of the page>/<name>`. `role`: the least that may press it."""

    name: str
    title: str
    role: Role
    run: Callable[[PageRequest], Awaitable[ActionResult]]


@dataclass(frozen=True, slots=True)
class Download:
    """A file of a page, at `<path of the page>/<name>`: an answer of the API, passed on as it is."""

    name: str
    fetch: Callable[[PageRequest], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Page:
    """`role`: the least that may open it. `section`: of the navigation, empty for a page that others lead to.
    `live_path`: the public API's stream of events after which the page is shown anew; what `load` returns says as
    `live_after` which event it knows already.
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
    downloads: tuple[Download, ...] = ()

    @property
    def live_url(self) -> str:
        return f"{self.path}/live"

    def build_action_path(self, action: Action) -> str:
        return f"{self.path}/{action.name}"
