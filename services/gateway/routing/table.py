"""The route table: built from the services' own OpenAPI documents; a service that is unavailable keeps its routes.

With a routing snapshot in force, the snapshot says which services and paths are public. A service that it no longer
mentions is removed from the table.
"""

import asyncio
import time
from typing import Any

import httpx2
import orjson

from caravan import fault_attribution
from caravan.database import CONNECTION_LOST
from caravan.discovery.routing_snapshot import Route as Rule
from caravan.errors import Problem
from caravan.http import EVENT_STREAM_TYPE
from caravan.runtime.periodic import ACTIVE_SECONDS
from caravan.service import ServiceContext
from caravan.telemetry import log
from services.gateway.known_services import list_known_services
from services.gateway.routing.rules import RouteMatch, RoutingRules
from services.gateway.routing.trie import OWN_SERVICE, Trie, extract_root, find_root_owners, iterate_declared_routes

REFRESH_SECONDS = 3.0
MISSING_REFRESH_SECONDS = 0.5
"""Least time between two looks for services that are missing and asked for: who has just started one need not wait for
the next refresh.
"""
RESTING_REFRESH_SECONDS = 15.0
"""While nobody has asked the gateway for AWAKE_SECONDS: reading everybody's document is most of what it does then."""
FETCH_SECONDS = 2.0
MAX_DOCUMENT_BYTES = 5 * 1024 * 1024


class RouteTable:
    """`documents` holds the last good OpenAPI document of each service, the gateway's own among them."""

    def __init__(self, context: ServiceContext[Any, Any]) -> None:
        self._context = context
        self._raw_documents: dict[str, bytes] = {}
        self._refreshing = asyncio.Lock()
        self._failing_services: set[str] = set()
        self.used_at = self.refreshed_at = time.monotonic()
        self._missing_refreshed_at = 0.0
        self.documents: dict[str, dict[str, Any]] = {}
        self.pages: tuple[str, ...] = ()
        """The gateway's own paths that are no part of the API, such as the landing page."""
        self.version = 0
        self.unreached_services: set[str] = set()
        """Services that should be there and have not been reached since this process started: their paths are not known
        yet.
        """
        self.trie = Trie(())
        self._slow_reads: dict[str, Trie] = {}
        self._stream_reads: dict[str, Trie] = {}
        self._rules: RoutingRules | None = None
        self._snapshot_routes: tuple[Rule, ...] | None = None
        self._warned_conflicts: set[tuple[str, str, str]] = set()

    async def match_route(self, path: str, method: str, host: str) -> RouteMatch | None:
        self.used_at = time.monotonic()
        route = self.trie.find_route(path)
        if route is None:
            await self._refresh_missing(path)
            route = self.trie.find_route(path)
        service = route.choose_service(method) if route else ""
        if route and not self._is_rule_bound(service):
            return RouteMatch(route.template, service, methods=route.services_by_method)
        return self._rules.resolve_route(route, path, method, host) if self._rules else None

    def find_unreached_services(self, path: str) -> set[str]:
        """Services that may have this path and have not been reached since this process started."""
        if self._snapshot_routes is not None or self._context.settings.services:
            return self.unreached_services
        return self.unreached_services | (
            find_root_owners(extract_root(path)) - self.documents.keys() - self._context.peers.keys()
        )

    def is_slow(self, service: str, path: str) -> bool:
        """Whether a read of this path, as the service has it, is declared to take its time."""
        return self._is_declared_in(self._slow_reads, service, path)

    def is_stream(self, service: str, path: str) -> bool:
        """Whether a read of this path is declared to be answered with events."""
        return self._is_declared_in(self._stream_reads, service, path)

    def _is_declared_in(self, reads_by_service: dict[str, Trie], service: str, path: str) -> bool:
        paths = reads_by_service.get(service)
        return paths is not None and paths.find_route(path) is not None

    def list_public_documents(self) -> dict[str, dict[str, Any]]:
        """The documents as clients may see them, the gateway's own first: what the rules keep from them is left out,
        what they move is where they find it.
        """
        return {name: self._apply_rules(name, self.documents[name]) for name in self._order_services()}

    def _order_services(self) -> list[str]:
        """Of two services that declare one route the first has it: the one with the older rule, where there are
        rules.
        """
        rule_services = [rule.service for rule in self._snapshot_routes or ()]
        return sorted(
            self.documents,
            key=lambda name: (name != OWN_SERVICE, rule_services.index(name) if name in rule_services else -1, name),
        )

    def _is_rule_bound(self, service: str) -> bool:
        return self._rules is not None and service != OWN_SERVICE and service not in self._context.peers

    def _apply_rules(self, name: str, document: dict[str, Any]) -> dict[str, Any]:
        if self._rules is None or not self._is_rule_bound(name):
            return document
        paths: dict[str, dict[str, Any]] = {}
        for template, item in document["paths"].items():
            for key, operation in item.items():
                for path in self._rules.list_public_paths(name, template, key.upper()):
                    paths.setdefault(path, {})[key] = operation
        return {**document, "paths": paths}

    async def keep_fresh(self) -> None:
        """Refresh, unless nobody asks, all is known, and that is not long ago."""
        now = time.monotonic()
        resting = (
            now - self.used_at > ACTIVE_SECONDS
            and now - self.refreshed_at < RESTING_REFRESH_SECONDS - REFRESH_SECONDS / 2
        )
        snapshot = self._context.discovery.current_snapshot
        if (
            not resting
            or self._failing_services
            or self.unreached_services
            or (snapshot is not None and snapshot.routes != self._snapshot_routes)
        ):
            await self.refresh()

    async def refresh(self) -> None:
        async with self._refreshing:
            self.refreshed_at = time.monotonic()
            self._read_peer_documents()
            self._apply_snapshot()
            remote_services = await self._list_remote_services()
            await asyncio.gather(*(self._read_remote_document(name) for name in remote_services))
            self.unreached_services &= remote_services - self.documents.keys()

    async def _refresh_missing(self, path: str) -> None:
        """A path that nobody has may be that of a service that has come meanwhile: all are read after a rest, else
        those alone that are missing.
        """
        now = time.monotonic()
        if not self.trie.routes or now - self.refreshed_at > REFRESH_SECONDS:
            await self.refresh()
        elif now - self._missing_refreshed_at > MISSING_REFRESH_SECONDS and (
            missing := self.find_unreached_services(path)
        ):
            self._missing_refreshed_at = now  # before the lock: who asks at the same time doesn't look once more
            async with self._refreshing:
                named = await self._list_remote_services() & missing
                await asyncio.gather(*(self._read_remote_document(name) for name in named))
                self.unreached_services -= self.documents.keys()

    def _apply_snapshot(self) -> None:
        """The rules of the snapshot in force, and no document of a service that has none."""
        snapshot = self._context.discovery.current_snapshot
        if snapshot is None or snapshot.routes == self._snapshot_routes:
            return
        self._snapshot_routes, self._rules = snapshot.routes, RoutingRules(snapshot.routes)
        for name in (
            self.documents.keys()
            - {rule.service for rule in snapshot.routes}
            - self._context.peers.keys()
            - {OWN_SERVICE}
        ):
            del self.documents[name], self._raw_documents[name]
        self._rebuild_trie()

    def _read_peer_documents(self) -> None:
        for name, app in self._context.peers.items():
            fastapi = getattr(app, "fastapi", None)
            if name not in self._raw_documents and fastapi is not None:
                self._raw_documents[name] = b""
                self._store_document(name, fastapi.openapi())

    async def _list_remote_services(self) -> set[str]:
        if self._snapshot_routes is not None:
            service_names = {rule.service for rule in self._snapshot_routes}
            self.unreached_services |= (
                {rule.service for rule in self._snapshot_routes if rule.paths_from}
                - self._context.peers.keys()
                - self.documents.keys()
            )
            return service_names - self._context.peers.keys()
        try:
            service_names = await self._context.discovery.list_services()
        except CONNECTION_LOST as error:
            log.warning("services can't be listed", error=repr(error))
            service_names = set(self.documents)
        if not service_names:
            configured = {name.strip() for name in self._context.settings.services.split(",") if name.strip()}
            service_names = configured or list_known_services()
            self.unreached_services |= service_names - self._context.peers.keys() - self.documents.keys()
        return service_names - self._context.peers.keys()

    async def _read_remote_document(self, name: str) -> None:
        try:
            raw = await self._fetch_document(name)
            if raw != self._raw_documents.get(name):
                self._store_document(name, orjson.loads(raw))
                self._raw_documents[name] = raw
            self._failing_services.discard(name)
        except (Problem, httpx2.HTTPError, ValueError, *CONNECTION_LOST) as error:
            if name not in self._failing_services:
                log.warning("a service's routes can't be read; the last ones stay", target=name, error=repr(error))
            self._failing_services.add(name)

    async def _fetch_document(self, name: str) -> bytes:
        endpoint = await self._context.discovery.acquire_endpoint(name)
        failed: bool | None = None
        try:
            response = await self._context.http.get(endpoint.url + "/openapi.json", timeout=FETCH_SECONDS)
            failed = fault_attribution.has_failed(
                response.status_code, response.headers.get(fault_attribution.FAULT_HEADER, "")
            )
            return bytes(response.raise_for_status().content)
        except httpx2.TransportError as error:
            failed = fault_attribution.has_failed_with(error)
            raise
        finally:
            endpoint.release(has_failed=failed)

    def _store_document(self, name: str, document: dict[str, Any]) -> None:
        if not isinstance(document.get("paths"), dict):
            raise ValueError(f"{name} has no OpenAPI document")
        self.documents[name] = document
        read_operations = {path: item["get"] for path, item in document["paths"].items() if "get" in item}
        self._slow_reads[name] = Trie((path, "GET", name) for path, read in read_operations.items() if "x-slow" in read)
        self._stream_reads[name] = Trie(
            (path, "GET", name)
            for path, read in read_operations.items()
            if EVENT_STREAM_TYPE in read.get("responses", {}).get("200", {}).get("content", {})
        )
        self._rebuild_trie()

    def _rebuild_trie(self) -> None:
        self.version += 1
        routes = [(path, "GET", OWN_SERVICE) for path in self.pages]
        for name in self._order_services():
            for template, method, service in iterate_declared_routes(name, self.documents[name]):
                if self._rules is None or not self._is_rule_bound(name) or self._rules.has_document_rule(name, method):
                    routes.append((template, method, service))
        self.trie = Trie(routes)
        self._warn_about_conflicts(routes)

    def _warn_about_conflicts(self, routes: list[tuple[str, str, str]]) -> None:
        for template, method, service in routes:
            selected_service = self.trie.routes[template].choose_service(method)
            if selected_service != service and (template, method, service) not in self._warned_conflicts:
                self._warned_conflicts.add((template, method, service))
                log.warning(
                    "two services have one route",
                    template=template,
                    method=method,
                    taken_by=selected_service,
                    left_out=service,
                )
