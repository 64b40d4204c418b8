"""/healthz, /readyz and /metrics on a port of their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

LONGEST_BEAT, LONGEST_BATCH, LONGEST_WAIT = 30.0, 600.0, 900.0


@dataclass(slots=True)
class Health:
    """What the probes look at; a standby has only its own event loop."""

    leading: bool = False
    beat: Callable[[], float] = time.monotonic
    batch_age: Callable[[], float] = lambda: 0.0
    queue_age: Callable[[], float] = lambda: 0.0
    deaf: Callable[[], bool] = lambda: False
    complete: Callable[[], bool] = lambda: False

    def problems(self) -> list[str]:
        """Why the process should be restarted."""
        if not self.leading:
            return []
        checks = {
            "the loop has stopped": time.monotonic() - self.beat() > LONGEST_BEAT,
            "a batch does not end": self.batch_age() > LONGEST_BATCH,
            "the queue is not worked on": self.queue_age() > LONGEST_WAIT,
            "a watch has gone deaf": self.deaf(),
        }
        return [problem for problem, true in checks.items() if true]


class Probes:
    def __init__(self, health: Health, port: int, host: str | None = None) -> None:
        """`host` of None: every interface, since the kubelet and Prometheus come from outside."""
        self._health = health
        self._port = port
        self._host = host
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        application = web.Application()
        application.add_routes([web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)])
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        problems = self._health.problems()
        return web.Response(status=500 if problems else 200, text="; ".join(problems) or "ok")

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self._health.leading:
            return web.Response(text="standby")
        complete = self._health.complete()
        return web.Response(status=200 if complete else 503, text="leading" if complete else "the caches are being filled")

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
