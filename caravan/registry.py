"""Who lives where, as the operator says: a routing snapshot from a mounted file, from the operator by long poll, or from both, whichever is newer.

A snapshot is taken whole or not at all. What can't be read, is older, or doesn't come leaves the last good one in force: an operator that is away stops
nothing. The file is what a process starts from while the operator is away; the long poll is what makes a change known within a second.
"""

import asyncio
import random
import time
from collections.abc import Callable, Collection
from pathlib import Path

import httpx2
from prometheus_client import Counter, Gauge

from caravan.discovery import Discovery
from caravan.endpoints import Endpoint, Pool
from caravan.snapshot import MAX_BYTES, Policy, ServiceEntry, Snapshot, SnapshotError, parse
from caravan.telemetry import log

TAKEN = Counter("caravan_registry_snapshots_total", "Routing snapshots by what came of them: applied, same, older, invalid", ["result"])
SEQUENCE = Gauge("caravan_registry_sequence", "Sequence of the routing snapshot in force")
REACHABLE = Gauge("caravan_registry_reachable", "1 while the source of snapshots can be read", ["source"])
ENDPOINTS = Gauge("caravan_registry_endpoints", "Endpoints that requests go to", ["target"])

FILE_SECONDS = 0.25
WAIT_SECONDS = 25
"""How long the operator may hold a poll that has nothing new."""
FIRST_BACKOFF, LAST_BACKOFF = 0.1, 2.0
"""Short: many gateways are few pollers, and a change during an operator's restart should still arrive within seconds."""


class BySnapshot(Discovery):
    """`otherwise` is asked for services that the snapshot doesn't speak of: they can be called, but are not public."""

    def __init__(self, otherwise: Discovery, file: Path | None, url: str) -> None:
        self._otherwise = otherwise
        self._file = file
        self._url = url
        self._snapshot: Snapshot | None = None
        self._pools: dict[str, Pool] = {}
        self._told: list[Callable[[], None]] = []
        self._sources: dict[str, str] = {}

    @property
    def snapshot(self) -> Snapshot | None:
        return self._snapshot

    async def locate(self, service: str, tried: Collection[str] = ()) -> Endpoint:
        pool = self._pools.get(service)
        return pool.take(tried) if pool else await self._otherwise.locate(service, tried)

    async def services(self) -> set[str]:
        return set(self._pools) or await self._otherwise.services()

    def policy(self, service: str) -> Policy:
        pool = self._pools.get(service)
        return pool.policy if pool else self._otherwise.policy(service)

    def on_change(self, tell: Callable[[], None]) -> None:
        self._told.append(tell)

    def status(self) -> dict[str, object]:
        return {
            "gateway": self._snapshot and self._snapshot.gateway,
            "revision": self._snapshot and self._snapshot.revision,
            "sequence": self._snapshot and self._snapshot.sequence,
            "sources": self._sources,
        }

    async def register(self, services: list[str], url: str) -> None:
        await self._otherwise.register(services, url)

    async def leave(self, url: str) -> None:
        await self._otherwise.leave(url)

    async def follow(self) -> None:
        async with asyncio.TaskGroup() as group:
            if self._file is not None:
                group.create_task(self._follow_file(self._file))
            if self._url:
                group.create_task(self._follow_url())

    async def _follow_file(self, file: Path) -> None:
        """By looking: a mounted ConfigMap changes by swapping a link, which a watch on the file would not see."""
        seen: tuple[int, ...] = ()
        while True:
            try:
                found = file.stat()
                stamp = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size)
                if stamp != seen:
                    self.offer(file.read_bytes() if found.st_size <= MAX_BYTES else b"", "file")
                    seen = stamp
                self._source("file", "")
            except OSError as error:
                self._source("file", f"{file}: {error.strerror}")
            await asyncio.sleep(FILE_SECONDS)

    async def _follow_url(self) -> None:
        tag, pause = "", FIRST_BACKOFF
        async with httpx2.AsyncClient(timeout=httpx2.Timeout(5, read=WAIT_SECONDS + 5), trust_env=False) as http:
            while True:
                try:
                    tag = await self._ask(http, tag)
                    self._source("url", "")
                    pause = FIRST_BACKOFF
                    continue
                except (httpx2.HTTPError, SnapshotError) as error:
                    self._source("url", f"{type(error).__name__}: {error}")
                await asyncio.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(pause * 2, LAST_BACKOFF)

    async def _ask(self, http: httpx2.AsyncClient, tag: str) -> str:
        """One poll; answers with the entity tag to ask with next. What was refused isn't asked for again."""
        headers = {"prefer": f"wait={WAIT_SECONDS}", **({"if-none-match": tag} if tag else {})}
        asked = time.monotonic()
        async with http.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code == 304:
                await asyncio.sleep(0 if time.monotonic() - asked >= 1 else 1)  # whoever doesn't hold a poll is asked once a second
                return tag
            answer.raise_for_status()
            raw = b""
            async for chunk in answer.aiter_bytes():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    raise SnapshotError(f"the answer is over {MAX_BYTES} bytes")
            new = answer.headers.get("etag", "")
        if not new or new == tag:
            raise SnapshotError("the answer has no new ETag; is this the operator's address?")
        self.offer(raw, "url")
        return new

    def _source(self, name: str, trouble: str) -> None:
        REACHABLE.labels(name).set(not trouble)
        if self._sources.get(name, "ok") != (trouble or "ok"):
            if trouble:
                log.warning("no news from the registry; the last snapshot stays", source=name, error=trouble)
            else:
                log.info("the registry is read again", source=name)
        self._sources[name] = trouble or "ok"

    def offer(self, raw: bytes, source: str) -> None:
        """Put a snapshot in force if it is sound and newer than the one that is."""
        try:
            snapshot = parse(raw)
        except SnapshotError as error:
            TAKEN.labels("invalid").inc()
            log.error("a routing snapshot was refused; the last one stays", source=source, error=str(error))
            return
        now = self._snapshot
        if now is not None and snapshot.revision == now.revision:
            TAKEN.labels("same").inc()
            self._snapshot = max(now, snapshot, key=lambda one: one.sequence)
        elif now is not None and snapshot.sequence <= now.sequence:
            TAKEN.labels("older").inc()
            log.warning("a routing snapshot is not newer and was ignored", source=source, sequence=snapshot.sequence, in_force=now.sequence)
        else:
            self._apply(snapshot)
            TAKEN.labels("applied").inc()
            log.info("routing snapshot in force", source=source, sequence=snapshot.sequence, revision=snapshot.revision)

    def _apply(self, snapshot: Snapshot) -> None:
        """Without a pause in between, so that no request sees half of it."""
        for gone in self._pools.keys() - snapshot.services.keys():
            ENDPOINTS.remove(gone)
        self._pools = {name: self._pools.get(name) or Pool(name) for name in snapshot.services}
        for name, entry in snapshot.services.items():
            urls = _usable(entry)
            self._pools[name].update(urls, entry)
            ENDPOINTS.labels(name).set(len(urls))
        self._snapshot = snapshot
        SEQUENCE.set(snapshot.sequence)
        for tell in self._told:
            tell()


def _usable(entry: ServiceEntry) -> list[str]:
    """Ready endpoints; where all are leaving, those that still serve: a slow answer is better than none."""
    ready = [endpoint.url for endpoint in entry.endpoints if endpoint.ready and not endpoint.terminating]
    return ready or [endpoint.url for endpoint in entry.endpoints if endpoint.serving]
