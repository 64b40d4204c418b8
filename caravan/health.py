"""Liveness, readiness and metrics of a process, and the routing snapshot that it follows. Liveness is the event loop alone; readiness asks the databases
whether they take writes, cached a second.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from caravan.database import Database
from caravan.deadlines import Deadline
from caravan.discovery import Discovery

CACHE_SECONDS = 1.0
CHECK_SECONDS = 1.0
METRICS_SHARE = 10
"""How many times as long as they took to write the metrics are answered again: whoever asks for them all the time gets a tenth of the process, no more."""
PATHS = frozenset({"/livez", "/readyz", "/metrics", "/revision"})


class Health:
    def __init__(self, databases: Mapping[str, Database], discovery: Discovery, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._databases = databases
        self._discovery = discovery
        self._checked = -CACHE_SECONDS
        self._failing: dict[str, str] = {}
        self._asking = asyncio.Lock()
        self._metrics = b""
        self._metrics_until = float("-inf")
        self.stopping = False
        self.warnings: dict[str, str] = {}
        """What works but should be put right, by name."""

    async def answer(self, path: str) -> Response:
        if path == "/livez":
            return Response("ok\n", media_type="text/plain")
        if path == "/metrics":
            return Response(self._written_metrics(), media_type=CONTENT_TYPE_LATEST)
        registry = self._discovery.status()
        if path == "/revision":
            none = {"detail": "this process follows no registry; CARAVAN_REGISTRY_URL or CARAVAN_REGISTRY_FILE names one"}
            return Response(orjson.dumps(registry or none), 200 if registry else 404, media_type="application/json")
        failing = await self.failing()
        about = {"registry": registry} if registry else {}
        body = {"status": "ready" if not failing else "not ready", "failing": failing, "warnings": self.warnings, **about}
        return Response(orjson.dumps(body), 503 if failing else 200, media_type="application/json")

    def _written_metrics(self) -> bytes:
        began = self._now()
        if began >= self._metrics_until:
            self._metrics = generate_latest()
            ended = self._now()
            self._metrics_until = ended + METRICS_SHARE * (ended - began)
        return self._metrics

    async def failing(self) -> dict[str, str]:
        """What is not ready, by name, and why."""
        if self.stopping:
            return {"process": "stopping"}
        async with self._asking:  # one asks for all who wait
            if self._now() - self._checked >= CACHE_SECONDS:
                await self._ask()
        return self._failing

    async def _ask(self) -> None:
        answers = await asyncio.gather(*(self._check(database) for database in self._databases.values()))
        self._failing = {name: reason for name, reason in zip(self._databases, answers, strict=True) if reason}
        if self._discovery.snapshot is None and self._discovery.status() is not None:
            self._failing["registry"] = "no routing snapshot has been read yet; `registry` says why"
        self._checked = self._now()

    async def _check(self, database: Database) -> str | None:
        try:
            async with Deadline(CHECK_SECONDS):
                read_only = await database.fetchval("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
        except Exception as error:  # whatever it is, the database can't be used
            return f"{type(error).__name__}: {error}".strip(": ")
        return "read-only" if read_only else None
