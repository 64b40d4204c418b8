"""The route table: derived from the services' own OpenAPI documents, and kept when a service is away.

Where a routing snapshot is in force, it says which services and paths are public, and a service that it speaks of no more is gone from the table.
"""

import asyncio
import time
from typing import Any

import httpx2
import orjson

from caravan import faults
from caravan.database import CONNECTION_LOST
from caravan.errors import Problem
from caravan.http import EVENTS
from caravan.runtime.periodic import AWAKE_SECONDS
from caravan.service import Context
from caravan.snapshot import Route as Rule
from caravan.telemetry import log
from services.gateway.faces import known_services
from services.gateway.routing import OWN, ROOTS, Trie, declared, root
from services.gateway.rules import Match, Rules

REFRESH_SECONDS = 3.0
LOOK_SECONDS = 0.5
"""Least time between two looks for services that are missing and asked for: who has just started one need not wait for the next refresh."""
RESTING_REFRESH_SECONDS = 15.0
"""While nobody has asked the gateway for AWAKE_SECONDS: reading everybody's document is most of what it does then."""
FETCH_SECONDS = 2.0
MAX_DOCUMENT = 5 * 1024 * 1024


class Table:
    """`documents` holds the last good OpenAPI document of each service, the gateway's own among them."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._raw: dict[str, bytes] = {}
        self._refreshing = asyncio.Lock()
        self._failing: set[str] = set()
        self.asked_at = self.refreshed_at = time.monotonic()
        self._looked_at = 0.0
        self.documents: dict[str, dict[str, Any]] = {}
        self.pages: tuple[str, ...] = ()
        """The gateway's own paths that are no part of the API, such as the landing page."""
        self.version = 0
        self.unread: set[str] = set()
        """Services that should be there and have not been reached since this process started: their paths are not known yet."""
        self.trie = Trie(())
        self._slow: dict[str, Trie] = {}
        self._streams: dict[str, Trie] = {}
        self._rules: Rules | None = None
        self._ruled: tuple[Rule, ...] | None = None
        self._warned: set[tuple[str, str, str]] = set()

    async def match(self, path: str, method: str, host: str) -> Match | None:
        self.asked_at = time.monotonic()
        found = self.trie.match(path)
        if found is None:
            await self._look_again(path)
            found = self.trie.match(path)
        service = found.service(method) if found else ""
        if found and not self._is_ruled(service):
            return Match(found.template, service, methods=found.by_method)
        return self._rules.resolve(found, path, method, host) if self._rules else None

    def away(self, path: str) -> set[str]:
        """Services that may have this path and have not been reached since this process started."""
        if self._ruled is not None or self._context.settings.services:
            return self.unread
        return self.unread | (ROOTS.get(root(path), set()) - self.documents.keys() - self._context.peers.keys())

    def is_slow(self, service: str, path: str) -> bool:
        """Whether a read of this path, as the service has it, is declared to take its time."""
        return self._is_among(self._slow, service, path)

    def is_stream(self, service: str, path: str) -> bool:
        """Whether a read of this path is declared to be answered with events."""
        return self._is_among(self._streams, service, path)

    def _is_among(self, declared: dict[str, Trie], service: str, path: str) -> bool:
        paths = declared.get(service)
        return paths is not None and paths.match(path) is not None

    def published(self) -> dict[str, dict[str, Any]]:
        """The documents as clients may see them, the gateway's own first: what the rules keep from them is left out, what they move is where they find it."""
        return {name: self._as_ruled(name, self.documents[name]) for name in self._order()}

    def _order(self) -> list[str]:
        """Of two services that declare one route the first has it: the one with the older rule, where there are rules."""
        ruled = [rule.service for rule in self._ruled or ()]
        return sorted(self.documents, key=lambda name: (name != OWN, ruled.index(name) if name in ruled else -1, name))

    def _is_ruled(self, service: str) -> bool:
        return self._rules is not None and service != OWN and service not in self._context.peers

    def _as_ruled(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        if self._rules is None or not self._is_ruled(name):
            return document
        paths: dict[str, dict[str, Any]] = {}
        for template, item in document["paths"].items():
            for key, operation in item.items():
                for path in self._rules.public(name, template, key.upper()):
                    paths.setdefault(path, {})[key] = operation
        return {**document, "paths": paths}

    async def keep_fresh(self) -> None:
        """Refresh, unless nobody asks, all is known, and that is not long ago."""
        now = time.monotonic()
        resting = now - self.asked_at > AWAKE_SECONDS and now - self.refreshed_at < RESTING_REFRESH_SECONDS - REFRESH_SECONDS / 2
        snapshot = self._context.discovery.snapshot
        if not resting or self._failing or self.unread or (snapshot is not None and snapshot.routes != self._ruled):
            await self.refresh()

    async def refresh(self) -> None:
        async with self._refreshing:
            self.refreshed_at = time.monotonic()
            self._read_peers()
            self._follow_snapshot()
            named = await self._remote_names()
            await asyncio.gather(*(self._read_remote(name) for name in named))
            self.unread &= named - self.documents.keys()

    async def _look_again(self, path: str) -> None:
        """A path that nobody has may be that of a service that has come meanwhile: all are read after a rest, else those alone that are missing."""
        now = time.monotonic()
        if not self.trie.routes or now - self.refreshed_at > REFRESH_SECONDS:
            await self.refresh()
        elif now - self._looked_at > LOOK_SECONDS and (missing := self.away(path)):
            self._looked_at = now  # before the lock: who asks at the same time doesn't look once more
            async with self._refreshing:
                named = await self._remote_names() & missing
                await asyncio.gather(*(self._read_remote(name) for name in named))
                self.unread -= self.documents.keys()

    def _follow_snapshot(self) -> None:
        """The rules of the snapshot in force, and no document of a service that has none."""
        snapshot = self._context.discovery.snapshot
        if snapshot is None or snapshot.routes == self._ruled:
            return
        self._ruled, self._rules = snapshot.routes, Rules(snapshot.routes)
        for name in self.documents.keys() - {rule.service for rule in snapshot.routes} - self._context.peers.keys() - {OWN}:
            del self.documents[name], self._raw[name]
        self._changed()

    def _read_peers(self) -> None:
        for name, app in self._context.peers.items():
            fastapi = getattr(app, "fastapi", None)
            if name not in self._raw and fastapi is not None:
                self._raw[name] = b""
                self._keep(name, fastapi.openapi())

    async def _remote_names(self) -> set[str]:
        if self._ruled is not None:
            found = {rule.service for rule in self._ruled}
            self.unread |= {rule.service for rule in self._ruled if rule.paths_from} - self._context.peers.keys() - self.documents.keys()
            return found - self._context.peers.keys()
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
            raw = await self._fetch(name)
            if raw != self._raw.get(name):
                self._keep(name, orjson.loads(raw))
                self._raw[name] = raw
            self._failing.discard(name)
        except (Problem, httpx2.HTTPError, ValueError, *CONNECTION_LOST) as error:
            if name not in self._failing:
                log.warning("a service's routes can't be read; the last ones stay", target=name, error=repr(error))
            self._failing.add(name)

    async def _fetch(self, name: str) -> bytes:
        endpoint = await self._context.discovery.locate(name)
        failed: bool | None = None
        try:
            answer = await self._context.http.get(endpoint.url + "/openapi.json", timeout=FETCH_SECONDS)
            failed = faults.has_failed(answer.status_code, answer.headers.get(faults.FAULT, ""))
            return bytes(answer.raise_for_status().content)
        except httpx2.TransportError as error:
            failed = faults.has_failed_by(error)
            raise
        finally:
            endpoint.ended(failed=failed)

    def _keep(self, name: str, document: dict[str, Any]) -> None:
        if not isinstance(document.get("paths"), dict):
            raise ValueError(f"{name} has no OpenAPI document")
        self.documents[name] = document
        reads = {path: item["get"] for path, item in document["paths"].items() if "get" in item}
        self._slow[name] = Trie((path, "GET", name) for path, read in reads.items() if "x-slow" in read)
        self._streams[name] = Trie(
            (path, "GET", name) for path, read in reads.items() if EVENTS in read.get("responses", {}).get("200", {}).get("content", {})
        )
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        routes = [(path, "GET", OWN) for path in self.pages]
        for name in self._order():
            for template, method, service in declared(name, self.documents[name]):
                if self._rules is None or not self._is_ruled(name) or self._rules.declares(name, method):
                    routes.append((template, method, service))
        self.trie = Trie(routes)
        self._warn_of_clashes(routes)

    def _warn_of_clashes(self, routes: list[tuple[str, str, str]]) -> None:
        for template, method, service in routes:
            taken_by = self.trie.routes[template].service(method)
            if taken_by != service and (template, method, service) not in self._warned:
                self._warned.add((template, method, service))
                log.warning("two services have one route", template=template, method=method, taken_by=taken_by, left_out=service)
