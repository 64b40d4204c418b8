"""Discovery by the operator's routing snapshot: from a mounted file, from the operator by long poll, or from both,
whichever is newer.

A snapshot is applied whole or not at all. One that can't be read, is older, or doesn't come leaves the last good one in
force: nothing stops while the operator is unavailable. A process starts from the file then; the long poll makes a
change known within a second.
"""

import asyncio
import time
from collections.abc import Callable, Collection
from pathlib import Path

import httpx2

from caravan.backoff import add_jitter, compute_exponential_backoff
from caravan.discovery.endpoints import Endpoint, EndpointPool
from caravan.discovery.protocol import Discovery
from caravan.discovery.routing_snapshot import MAX_BYTES, Policy, ServiceEntry, Snapshot, SnapshotError, parse_snapshot
from caravan.http_client import HttpClient
from caravan.telemetry import log, metrics

_FILE_SECONDS = 0.25
_WAIT_SECONDS = 25
"""How long the operator may hold a poll that has nothing new."""
_MIN_BACKOFF, _MAX_BACKOFF = 0.1, 2.0
"""Short: many gateways are few pollers, and a change during an operator's restart should still arrive within
seconds.
"""


class SnapshotDiscovery(Discovery):
    """`fallback` locates services that the snapshot doesn't contain: they can be called, but are not public."""

    def __init__(self, fallback: Discovery, file: Path | None, url: str) -> None:
        self._fallback = fallback
        self._file = file
        self._url = url
        self._snapshot: Snapshot | None = None
        self._pools: dict[str, EndpointPool] = {}
        self._listeners: list[Callable[[], None]] = []
        self._sources: dict[str, str] = {}

    @property
    def current_snapshot(self) -> Snapshot | None:
        return self._snapshot

    async def acquire_endpoint(self, service: str, tried_urls: Collection[str] = ()) -> Endpoint:
        pool = self._pools.get(service)
        return pool.acquire(tried_urls) if pool else await self._fallback.acquire_endpoint(service, tried_urls)

    async def list_services(self) -> set[str]:
        return set(self._pools) or await self._fallback.list_services()

    async def list_endpoints(self, service: str) -> list[Endpoint]:
        pool = self._pools.get(service)
        return pool.list_endpoints() if pool else await self._fallback.list_endpoints(service)

    def get_policy(self, service: str) -> Policy:
        pool = self._pools.get(service)
        return pool.policy if pool else self._fallback.get_policy(service)

    def add_change_listener(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def get_status(self) -> dict[str, object]:
        return {
            "gateway": self._snapshot and self._snapshot.gateway,
            "revision": self._snapshot and self._snapshot.revision,
            "sequence": self._snapshot and self._snapshot.sequence,
            "sources": self._sources,
        }

    async def register_services(self, services: list[str], url: str) -> None:
        await self._fallback.register_services(services, url)

    async def deregister_url(self, url: str) -> None:
        await self._fallback.deregister_url(url)

    async def watch_changes(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._file is not None:
                group.create_task(self._watch_file(self._file))
            if self._url:
                group.create_task(self._poll_url())

    async def _watch_file(self, file: Path) -> None:
        """By looking: a mounted ConfigMap changes by swapping a link, which a watch on the file would not see."""
        last_stamp: tuple[int, ...] = ()
        while True:
            try:
                stat = file.stat()
                stamp = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if stamp != last_stamp:
                    self.apply_if_newer(file.read_bytes() if stat.st_size <= MAX_BYTES else b"", "file")
                    last_stamp = stamp
                self._report_source("file", "")
            except OSError as error:
                self._report_source("file", f"{file}: {error.strerror}")
            await asyncio.sleep(_FILE_SECONDS)

    async def _poll_url(self) -> None:
        tag, failures = "", 0
        async with HttpClient(timeout=httpx2.Timeout(5, read=_WAIT_SECONDS + 5), trust_env=False) as http:
            while True:
                try:
                    tag = await self._poll_once(http, tag)
                    self._report_source("url", "")
                    failures = 0
                    continue
                except (httpx2.HTTPError, SnapshotError) as error:
                    self._report_source("url", f"{type(error).__name__}: {error}")
                await asyncio.sleep(add_jitter(compute_exponential_backoff(failures, _MIN_BACKOFF, _MAX_BACKOFF)))
                failures += 1

    async def _poll_once(self, http: HttpClient, tag: str) -> str:
        """One poll; answers with the entity tag to ask with next. What was refused isn't asked for again."""
        headers = {"prefer": f"wait={_WAIT_SECONDS}", **({"if-none-match": tag} if tag else {})}
        requested_at = time.monotonic()
        async with http.stream("GET", self._url, headers=headers) as response:
            if response.status_code == 304:
                await asyncio.sleep(
                    0 if time.monotonic() - requested_at >= 1 else 1
                )  # whoever doesn't hold a poll is asked once a second
                return tag
            response.raise_for_status()
            raw = b""
            async for chunk in response.aiter_bytes():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise SnapshotError(f"the answer is over {MAX_BYTES} bytes")
            new_tag = response.headers.get("etag", "")
        if not new_tag or new_tag == tag:
            raise SnapshotError("the answer has no new ETag; is this the operator's address?")
        self.apply_if_newer(raw, "url")
        return new_tag

    def _report_source(self, name: str, reason: str) -> None:
        metrics.REGISTRY_REACHABLE.labels(name).set(not reason)
        if self._sources.get(name, "ok") != (reason or "ok"):
            if reason:
                log.warning("the registry is unavailable; the last snapshot stays", source=name, error=reason)
            else:
                log.info("the registry is read again", source=name)
        self._sources[name] = reason or "ok"

    def apply_if_newer(self, raw: bytes, source: str) -> None:
        """Put a snapshot in force if it is sound and newer than the one that is."""
        try:
            snapshot = parse_snapshot(raw)
        except SnapshotError as error:
            metrics.REGISTRY_SNAPSHOTS.labels("invalid").inc()
            log.error("a routing snapshot was refused; the last one stays", source=source, error=str(error))
            return
        current = self._snapshot
        if current is not None and snapshot.revision == current.revision:
            metrics.REGISTRY_SNAPSHOTS.labels("same").inc()
            self._snapshot = max(current, snapshot, key=lambda one: one.sequence)
        elif current is not None and snapshot.sequence <= current.sequence:
            metrics.REGISTRY_SNAPSHOTS.labels("older").inc()
            log.warning(
                "a routing snapshot is not newer and was ignored",
                source=source,
                sequence=snapshot.sequence,
                in_force=current.sequence,
            )
        else:
            self._apply_snapshot(snapshot)
            metrics.REGISTRY_SNAPSHOTS.labels("applied").inc()
            log.info("routing snapshot in force", source=source, sequence=snapshot.sequence, revision=snapshot.revision)

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        """Without a pause in between, so that no request sees half of it."""
        for removed in self._pools.keys() - snapshot.services.keys():
            metrics.REGISTRY_ENDPOINTS.remove(removed)
        self._pools = {name: self._pools.get(name) or EndpointPool(name) for name in snapshot.services}
        for name, entry in snapshot.services.items():
            urls = _list_usable_urls(entry)
            self._pools[name].update_endpoints(urls, entry)
            metrics.REGISTRY_ENDPOINTS.labels(name).set(len(urls))
        self._snapshot = snapshot
        metrics.REGISTRY_SEQUENCE.set(snapshot.sequence)
        for listener in self._listeners:
            listener()


def _list_usable_urls(entry: ServiceEntry) -> list[str]:
    """Ready endpoints; where all are leaving, those that still serve: a slow answer is better than none."""
    ready = [endpoint.url for endpoint in entry.endpoints if endpoint.ready and not endpoint.terminating]
    return ready or [endpoint.url for endpoint in entry.endpoints if endpoint.serving]
