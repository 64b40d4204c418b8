"""Serves routing snapshots by long poll: a reader that has the present one waits until there is another."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from caravan_operator.resources.resource import Key
from caravan_operator.status.metrics import POLLS

LONGEST_WAIT = 25.0
MOST_POLLS = 1000
"""Waiting readers: each gateway and each service's process is one."""


@dataclass(slots=True)
class _Held:
    content: bytes = b""
    tag: str = ""
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Snapshots:
    def __init__(self, port: int, leading: Callable[[], bool], host: str | None = None) -> None:
        """`host` of None: every interface; a NetworkPolicy says who may ask."""
        self._port = port
        self._leading = leading
        self._host = host
        self._held: dict[Key, _Held] = {}
        self._polls = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Listen; returns the port."""
        application = web.Application()
        application.add_routes([web.get("/v1/snapshots/{namespace}/{gateway}", self._get)])
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def publish(self, gateway: Key, content: bytes, revision: str, sequence: int) -> None:
        """Answer all who wait. The same once more wakes nobody."""
        held = self._held.setdefault(gateway, _Held())
        tag = f'"{sequence}-{revision[-12:]}"'
        if tag != held.tag:
            held.content, held.tag = content, tag
            held.changed.set()
            held.changed = asyncio.Event()

    async def _get(self, request: web.Request) -> web.Response:
        gateway = Key("Gateway", request.match_info["namespace"], request.match_info["gateway"])
        held = self._held.get(gateway)
        if not self._leading() or (held is None and not self._held):
            return _later("this replica has nothing to serve; ask again, of another one")
        if held is None:
            return web.Response(status=404, text=f"no ServiceRoute names the gateway {gateway.path}\n")
        if request.headers.get("If-None-Match") == held.tag:
            if self._polls >= MOST_POLLS:
                return _later(f"{MOST_POLLS} readers are waiting already")
            await self._wait(held, _wait(request))
            if request.headers["If-None-Match"] == held.tag:
                return web.Response(status=304, headers={"ETag": held.tag})
        return web.Response(body=held.content, content_type="application/json", headers={"ETag": held.tag, "Cache-Control": "no-cache"})

    async def _wait(self, held: _Held, seconds: float) -> None:
        self._polls += 1
        POLLS.set(self._polls)
        try:
            async with asyncio.timeout(seconds):
                await held.changed.wait()
        except TimeoutError:
            pass
        finally:
            self._polls -= 1
            POLLS.set(self._polls)


def _later(text: str) -> web.Response:
    """With the connection closed: the next one may reach the leader."""
    response = web.Response(status=503, text=text + "\n", headers={"Retry-After": "1"})
    response.force_close()
    return response


def _wait(request: web.Request) -> float:
    """Seconds that the reader wants to wait (RFC 7240)."""
    wanted = re.search(r"(?:^|[,; ])wait=([0-9]{1,4})", request.headers.get("Prefer", ""))
    return min(float(wanted[1]), LONGEST_WAIT) if wanted else 0.0
