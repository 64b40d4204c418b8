"""The console's calls of the shop's public API, with the token of whoever is signed in.

They enter at the gateway's own application, as a client's requests do: route, limits, roles, audit and deadlines are
the same, in every size of the shop. The console has no other way to the services.
"""

import asyncio
from collections.abc import AsyncGenerator, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from starlette.requests import Request

from caravan import telemetry
from caravan.http import App, Scope

Query = dict[str, str | int | None]
MAX_WAITING_PARTS = 100


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def parse(self) -> Any:
        """Its JSON. Raises ApiRefused for a problem document."""
        if self.status >= 400:
            raise ApiRefused(self.status, _parse_problem(self.body), self.headers.get("retry-after", ""))
        return orjson.loads(self.body) if self.body else None


class ApiRefused(Exception):
    """The API answered with a problem document (RFC 9457)."""

    def __init__(self, status: int, problem: dict[str, Any], retry_after: str = "") -> None:
        super().__init__(problem.get("detail") or f"status {status}")
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class ApiClient:
    """For one request of a browser."""

    def __init__(self, app: App, request: Request, access_token: str = "") -> None:
        self._app = app
        self._scope = request.scope
        self._access_token = access_token

    async def get(self, path: str, query: Query | None = None) -> Any:
        return (await self.send("GET", path, query)).parse()

    async def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        content = b"" if body is None else orjson.dumps(body)
        return (await self.send("POST", path, None, content, "application/json", headers)).parse()

    async def post_form(self, path: str, form: dict[str, str], headers: dict[str, str] | None = None) -> Answer:
        content_type = "application/x-www-form-urlencoded"
        return await self.send("POST", path, None, urlencode(form).encode(), content_type, headers)

    async def send(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        content: bytes = b"",
        content_type: str = "",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """The whole answer, whatever its status."""
        exchange = _Exchange(self._build_scope(method, path, query, content, content_type, headers or {}), content)
        await asyncio.create_task(exchange.run(self._app))
        body = bytearray()
        while (part := exchange.parts.get_nowait()) is not None:
            body += part
        return Answer(exchange.status, exchange.headers, bytes(body))

    async def open_stream(self, path: str, headers: dict[str, str]) -> tuple[Answer, AsyncGenerator[bytes, None]]:
        """The head of an answer, and its parts as they come."""
        exchange = _Exchange(self._build_scope("GET", path, None, b"", "", headers), b"", MAX_WAITING_PARTS)
        task = asyncio.create_task(exchange.run(self._app))
        try:
            await exchange.has_begun.wait()
        except asyncio.CancelledError:
            task.cancel()
            raise
        return Answer(exchange.status, exchange.headers, b""), _read_parts(exchange, task)

    def _build_scope(
        self, method: str, path: str, query: Query | None, content: bytes, content_type: str, headers: dict[str, str]
    ) -> Scope:
        sent = {
            **{name.decode(): value.decode("latin-1") for name, value in self._scope["headers"] if name in _KEPT},
            "accept": "*/*",
            "x-request-id": telemetry.request_id.get() or "",
            **({"authorization": f"Bearer {self._access_token}"} if self._access_token else {}),
            **({"content-type": content_type, "content-length": str(len(content))} if content else {}),
            **headers,
        }
        scope = {key: self._scope[key] for key in ("type", "asgi", "http_version", "scheme", "server", "client")}
        return scope | {
            "method": method,
            "path": path,
            "raw_path": quote(path).encode(),
            "query_string": urlencode({k: v for k, v in (query or {}).items() if v not in (None, "")}).encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items()],
            "state": {},
        }


_KEPT = frozenset({b"host", b"user-agent"})


class _Exchange:
    """One request and its answer, in a task of its own: the application sets variables of its context. `parts` ends
    with None.
    """

    def __init__(self, scope: Scope, content: bytes, max_waiting_parts: int = 0) -> None:
        self._scope = scope
        self._content: bytes | None = content
        self.status = 0
        self.headers: dict[str, str] = {}
        self.parts: asyncio.Queue[bytes | None] = asyncio.Queue(max_waiting_parts)
        self.has_begun = asyncio.Event()

    async def run(self, app: App) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        finally:
            self.has_begun.set()
            await self.parts.put(None)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._content is None:
            await asyncio.Event().wait()  # the browser is still there: when it leaves, this task is cancelled
        content, self._content = self._content or b"", None
        return {"type": "http.request", "body": content, "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode().lower(): value.decode("latin-1") for name, value in message["headers"]}
            self.has_begun.set()
        elif body := message.get("body", b""):
            await self.parts.put(body)


async def _read_parts(exchange: _Exchange, task: asyncio.Task[None]) -> AsyncGenerator[bytes, None]:
    try:
        while (part := await exchange.parts.get()) is not None:
            yield part
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _parse_problem(body: bytes) -> dict[str, Any]:
    try:
        problem = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def fill_path(template: str, **parameters: str) -> str:
    """A path with its parameters, each one segment of it. Raises ApiRefused for what would lead elsewhere."""
    for name, value in parameters.items():
        if not value or "/" in value or value in (".", "..") or not value.isprintable():
            raise ApiRefused(404, {"title": "Not found", "detail": f"there is no {name.replace('_', ' ')} like this"})
        template = template.replace("{" + name + "}", value)
    return template
