"""Liveness, readiness and metrics of a process, and the routing snapshot that it follows.

Liveness is the event loop alone; readiness asks the databases whether they take writes, cached for a second.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from starlette.responses import Response

from caravan import fault_flags
from caravan.database import Database
from caravan.deadlines import Deadline
from caravan.discovery import Discovery

_CACHE_SECONDS = 1.0
_CHECK_SECONDS = 1.0
_METRICS_SHARE = 10
"""How many times as long as they took to write the metrics are answered again: whoever asks for them all the time gets
a tenth of the process, no more.
"""
_METRICS_SECONDS = 5.0
"""They are never answered again for longer: a process that was held up while it wrote them would tell a scraper for
minutes what has long changed.
"""
_generate_openmetrics: Callable[[CollectorRegistry], bytes] = openmetrics.generate_latest
PATHS = frozenset({"/livez", "/readyz", "/metrics", "/revision"})


@dataclass(slots=True)
class _RenderedMetrics:
    content: bytes = b""
    until: float = float("-inf")


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
        self._rendered = {False: _RenderedMetrics(), True: _RenderedMetrics()}
        """By whether it is OpenMetrics."""
        self.is_stopping = False
        self.warnings: dict[str, str] = {}
        """What works but should be put right, by name."""

    async def answer_probe(self, path: str, accept: str = "") -> Response:
        if path == "/livez":
            return Response("ok\n", media_type="text/plain")
        if path == "/metrics":
            return self._render_metrics("application/openmetrics-text" in accept)
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
            **({"faults": sorted(fault_flags.active)} if fault_flags.active else {}),
            **registry_fields,
        }
        return Response(orjson.dumps(body), 503 if failing else 200, media_type="application/json")

    def _render_metrics(self, is_openmetrics: bool) -> Response:
        """In the format that the scraper asks for; only OpenMetrics has room for exemplars."""
        rendered = self._rendered[is_openmetrics]
        started_at = self._now()
        if started_at >= rendered.until:
            rendered.content = _generate_openmetrics(REGISTRY) if is_openmetrics else generate_latest()
            ended_at = self._now()
            rendered.until = ended_at + min(_METRICS_SHARE * (ended_at - started_at), _METRICS_SECONDS)
        return Response(
            rendered.content, media_type=openmetrics.CONTENT_TYPE_LATEST if is_openmetrics else CONTENT_TYPE_LATEST
        )

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
