"""Serves routing snapshots by long poll: a reader that has the current one waits until there is a newer one."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import SNAPSHOT_POLLS

MAX_WAIT_SECONDS = 25.0
MAX_POLLS = 1000
"""Waiting readers: each gateway and each service's process is one."""


@dataclass(slots=True)
class _StoredSnapshot:
    content: bytes = b""
    tag: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class SnapshotServer:
    def __init__(self, port: int, is_leading: Callable[[], bool], host: str | None = None) -> None:
        """`host` of None: every interface; a NetworkPolicy says who may ask."""
        self._port = port
        self._is_leading = is_leading
        self._host = host
        self._snapshots: dict[Key, _StoredSnapshot] = {}
        self._polls = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; returns the port."""
        application = web.Application()
        application.add_routes([web.get("/v1/snapshots/{namespace}/{gateway}", self._get_snapshot)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def publish(self, gateway: Key, content: bytes, revision: str, sequence: int) -> None:
        """Store a snapshot and answer all polls that wait for it. An equal one wakes none."""
        snapshot = self._snapshots.setdefault(gateway, _StoredSnapshot())
        tag = f'"{sequence}-{revision[-12:]}"'
        if tag != snapshot.tag:
            snapshot.content, snapshot.tag = content, tag
            snapshot.changed.set()
            snapshot.changed = asyncio.Event()

    async def _get_snapshot(self, request: web.Request) -> web.Response:
        gateway = Key("Gateway", request.match_info["namespace"], request.match_info["gateway"])
        snapshot = self._snapshots.get(gateway)
        if not self._is_leading() or (snapshot is None and not self._snapshots):
            return _reply_retry_later("this replica has nothing to serve; ask again, of another one")
        if snapshot is None:
            return web.Response(status=404, text=f"no ServiceRoute names the gateway {gateway.namespaced_name}\n")
        if request.headers.get("If-None-Match") == snapshot.tag:
            if self._polls >= MAX_POLLS:
                return _reply_retry_later(f"{MAX_POLLS} readers are waiting already")
            await self._wait_for_change(snapshot, _parse_wait_seconds(request))
            if request.headers["If-None-Match"] == snapshot.tag:
                return web.Response(status=304, headers={"ETag": snapshot.tag})
        return web.Response(
            body=snapshot.content,
            content_type="application/json",
            headers={"ETag": snapshot.tag, "Cache-Control": "no-cache"},
        )

    async def _wait_for_change(self, snapshot: _StoredSnapshot, seconds: float) -> None:
        self._polls += 1
        SNAPSHOT_POLLS.set(self._polls)
        try:
            async with asyncio.timeout(seconds):
                await snapshot.changed.wait()
        except TimeoutError:
            pass
        finally:
            self._polls -= 1
            SNAPSHOT_POLLS.set(self._polls)


def _reply_retry_later(text: str) -> web.Response:
    """With the connection closed: the next one may reach the leader."""
    response = web.Response(status=503, text=text + "\n", headers={"Retry-After": "1"})
    response.force_close()
    return response


def _parse_wait_seconds(request: web.Request) -> float:
    """Seconds that the reader wants to wait (RFC 7240)."""
    preference = re.search(r"(?:^|[,; ])wait=([0-9]{1,4})", request.headers.get("Prefer", ""))
    return min(float(preference[1]), MAX_WAIT_SECONDS) if preference else 0.0
