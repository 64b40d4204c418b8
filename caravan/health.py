"""Liveness, readiness and metrics of a process, and the routing snapshot that it follows.

Liveness is the event loop alone; readiness asks the databases whether they take writes, cached for a second.
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

_CACHE_SECONDS = 1.0
_CHECK_SECONDS = 1.0
_METRICS_SHARE = 10
"""How many times as long as they took to write the metrics are answered again: whoever asks for them all the time gets
a tenth of the process, no more.
"""
PATHS = frozenset({"/livez", "/readyz", "/metrics", "/revision"})


class Health:
    def __init__(
        self, databases: Mapping[str, Database], discovery: Discovery, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._now = now
        self._databases = databases
        self._discovery = discovery
        self._checked_at = -_CACHE_SECONDS
        self._failing: dict[str, str] = {}
        self._check_lock = asyncio.Lock()
        self._metrics = b""
        self._metrics_until = float("-inf")
        self.is_stopping = False
        self.warnings: dict[str, str] = {}
        """What works but should be put right, by name."""

    async def answer_probe(self, path: str) -> Response:
        if path == "/livez":
            return Response("ok\n", media_type="text/plain")
        if path == "/metrics":
            return Response(self._render_metrics(), media_type=CONTENT_TYPE_LATEST)
        registry = self._discovery.get_status()
        if path == "/revision":
            not_configured = {
                "detail": "this process follows no registry; CARAVAN_REGISTRY_URL or CARAVAN_REGISTRY_FILE names one"
            }
            return Response(
                orjson.dumps(registry or not_configured), 200 if registry else 404, media_type="application/json"
            )
        failing = await self.check_readiness()
        registry_fields = {"registry": registry} if registry else {}
        body = {
            "status": "ready" if not failing else "not ready",
            "failing": failing,
            "warnings": self.warnings,
            **registry_fields,
        }
        return Response(orjson.dumps(body), 503 if failing else 200, media_type="application/json")

    def _render_metrics(self) -> bytes:
        started_at = self._now()
        if started_at >= self._metrics_until:
            self._metrics = generate_latest()
            ended_at = self._now()
            self._metrics_until = ended_at + _METRICS_SHARE * (ended_at - started_at)
        return self._metrics

    async def check_readiness(self) -> dict[str, str]:
        """What is not ready, by name, and why."""
        if self.is_stopping:
            return {"process": "stopping"}
        async with self._check_lock:  # one asks for all who wait
            if self._now() - self._checked_at >= _CACHE_SECONDS:
                await self._check_databases()
        return self._failing

    async def _check_databases(self) -> None:
        reasons = await asyncio.gather(*(self._check_database(database) for database in self._databases.values()))
        self._failing = {name: reason for name, reason in zip(self._databases, reasons, strict=True) if reason}
        if self._discovery.current_snapshot is None and self._discovery.get_status() is not None:
            self._failing["registry"] = "no routing snapshot has been read yet; `registry` says why"
        self._checked_at = self._now()

    async def _check_database(self, database: Database) -> str | None:
        try:
            async with Deadline(_CHECK_SECONDS):
                read_only = await database.fetchval(
                    "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool"
                )
        except Exception as error:  # whatever it is, the database can't be used
            return f"{type(error).__name__}: {error}".strip(": ")
        return "read-only" if read_only else None
