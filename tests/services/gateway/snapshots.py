"""Routing snapshots as an operator would write them, and a stand-in for the operator's long poll."""

import asyncio
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from caravan.discovery.routing_snapshot import SCHEMA, compute_revision

READY = {"ready": True, "serving": True, "terminating": False}
DRAINING = {"ready": False, "serving": True, "terminating": True}


def endpoint(url: str, **states: bool) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"address": parts.hostname, "port": parts.port, **(states or READY)}


def route(service: str, **more: Any) -> dict[str, Any]:
    where = {} if {"pathPrefix", "pathExact"} & more.keys() else {"pathsFrom": "OpenAPI"}
    return {"name": f"shop/{service}/0", "service": service, **where, **more}


def document(
    sequence: int, services: dict[str, Any], routes: Iterable[dict[str, Any]] | None = None, **more: Any
) -> bytes:
    """`services`: endpoints, or a whole entry, by name. Without `routes` each service is public by its own OpenAPI
    document.
    """
    entries = {name: entry if isinstance(entry, dict) else {"endpoints": entry} for name, entry in services.items()}
    content = {
        "schema": SCHEMA,
        "gateway": "gateway",
        "services": entries,
        "routes": [route(name) for name in services] if routes is None else list(routes),
        **more,
    }
    return json.dumps({**content, "sequence": sequence, "revision": compute_revision(content)}).encode()


class Mounted:
    """A file that changes as a mounted ConfigMap does: a new folder, and a link that is swapped to it in one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self.path = folder / "snapshot.json"
        self.path.symlink_to("..data/snapshot.json")

    def put(self, content: bytes) -> None:
        self._count += 1
        version = self._folder / f"..{self._count}"
        version.mkdir()
        (version / "snapshot.json").write_bytes(content)
        link = self._folder / "..new"
        link.symlink_to(version.name)
        os.replace(link, self._folder / "..data")


@dataclass
class Operator:
    """Serves what it was given last under a tag, and holds a poll that knows it already."""

    content: bytes = b""
    tag: int = 0
    polls: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, content: bytes) -> None:
        self.content, self.tag = content, self.tag + 1
        self.changed.set()
        self.changed = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.polls += 1
        given = dict(scope["headers"]).get(b"if-none-match")
        tag = f'"{self.tag}"'.encode()
        if given == tag:
            await asyncio.wait_for(self.changed.wait(), 20)
            tag = f'"{self.tag}"'.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"etag", tag)]})
        await send({"type": "http.response.body", "body": self.content})
