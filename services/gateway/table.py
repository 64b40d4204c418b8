"""The route table: derived from the services' own OpenAPI documents, and kept when a service is away."""

import asyncio
from typing import Any

import httpx2
import orjson

from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.service import Context
from caravan.telemetry import log
from services.gateway.faces import known_services
from services.gateway.routing import OWN, Route, Trie, declared

REFRESH_SECONDS = 3.0
FETCH_SECONDS = 2.0
MAX_DOCUMENT = 5 * 1024 * 1024


class Table:
    """`documents` holds the last good OpenAPI document of each service, the gateway's own among them."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._raw: dict[str, bytes] = {}
        self._refreshing = asyncio.Lock()
        self._failing: set[str] = set()
        self.documents: dict[str, dict[str, Any]] = {}
        self.pages: tuple[str, ...] = ()
        """The gateway's own paths that are no part of the API, such as the landing page."""
        self.version = 0
        self.unread: set[str] = set()
        """Services that should be there and have not been reached since this process started: their paths are not known yet."""
        self.trie = Trie(())

    async def match(self, path: str) -> Route | None:
        if not self.trie.routes:
            await self.refresh()
        return self.trie.match(path)

    async def refresh(self) -> None:
        async with self._refreshing:
            before = self.version
            self._read_peers()
            named = await self._remote_names()
            await asyncio.gather(*(self._read_remote(name) for name in named))
            self.unread &= named - self.documents.keys()
            if self.version != before:
                self._compile()

    def _read_peers(self) -> None:
        for name, app in self._context.peers.items():
            fastapi = getattr(app, "fastapi", None)
            if name not in self._raw and fastapi is not None:
                self._raw[name] = b""
                self._keep(name, fastapi.openapi())

    async def _remote_names(self) -> set[str]:
        try:
            found = await self._context.discovery.services()
        except CONNECTION_LOST as error:
            log.warning("services can't be listed", error=repr(error))
            found = set(self.documents)
        if not found:
            given = {name.strip() for name in self._context.settings.services.split(",") if name.strip()}
            found = given or known_services()
            self.unread |= found - self._context.peers.keys() - self.documents.keys()
        return found - self._context.peers.keys()

    async def _read_remote(self, name: str) -> None:
        try:
            base = await self._context.discovery.locate(name)
            answer = await self._context.http.get(base + "/openapi.json", timeout=FETCH_SECONDS)
            raw = answer.raise_for_status().content
            if raw != self._raw.get(name):
                self._keep(name, orjson.loads(raw))
                self._raw[name] = raw
            self._failing.discard(name)
        except (Problem, httpx2.HTTPError, ValueError, *CONNECTION_LOST) as error:
            if name not in self._failing:
                log.warning("a service's routes can't be read; the last ones stay", target=name, error=repr(error))
            self._failing.add(name)

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        if not isinstance(document.get("paths"), dict):
            raise ValueError(f"{name} has no OpenAPI document")
        self.documents[name] = document
        self.version += 1

    def _compile(self) -> None:
        routes = [(path, "GET", OWN) for path in self.pages]
        for name in sorted(self.documents, key=lambda name: (name != OWN, name)):
            routes += declared(name, self.documents[name])
        self.trie = Trie(routes)
        self._warn_of_clashes(routes)

    def _warn_of_clashes(self, routes: list[tuple[str, str, str]]) -> None:
        for template, method, service in routes:
            taken_by = self.trie.routes[template].service(method)
            if taken_by != service:
                log.warning("two services have one route", template=template, method=method, taken_by=taken_by, left_out=service)
