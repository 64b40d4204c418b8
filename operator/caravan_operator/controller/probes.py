"""/healthz, /readyz and /metrics on a port of their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

MAX_HEARTBEAT_AGE, MAX_BATCH_AGE, MAX_QUEUE_AGE = 30.0, 600.0, 900.0


@dataclass(slots=True)
class Health:
    """What the probes look at; a standby has only its own event loop."""

    is_leading: bool = False
    get_heartbeat: Callable[[], float] = time.monotonic
    get_batch_age: Callable[[], float] = lambda: 0.0
    get_queue_age: Callable[[], float] = lambda: 0.0
    is_stale: Callable[[], bool] = lambda: False
    is_synced: Callable[[], bool] = lambda: False

    def list_problems(self) -> list[str]:
        """Why the process should be restarted."""
        if not self.is_leading:
            return []
        checks = {
            "the loop has stopped": time.monotonic() - self.get_heartbeat() > MAX_HEARTBEAT_AGE,
            "a batch does not end": self.get_batch_age() > MAX_BATCH_AGE,
            "the queue is not worked on": self.get_queue_age() > MAX_QUEUE_AGE,
            "a watch is stale": self.is_stale(),
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
        application.add_routes(
            [
                web.get("/healthz", self._get_health),
                web.get("/readyz", self._get_readiness),
                web.get("/metrics", self._get_metrics),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._host, self._port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _get_health(self, _: web.Request) -> web.Response:
        problems = self._health.list_problems()
        return web.Response(status=500 if problems else 200, text="; ".join(problems) or "ok")

    async def _get_readiness(self, _: web.Request) -> web.Response:
        if not self._health.is_leading:
            return web.Response(text="standby")
        is_synced = self._health.is_synced()
        return web.Response(
            status=200 if is_synced else 503, text="leading" if is_synced else "the caches are being filled"
        )

    async def _get_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
