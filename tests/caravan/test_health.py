"""Readiness says within two seconds that a database is not there, also when it has frozen instead of gone; and what the
probes may cost.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from caravan import health
from caravan.discovery import DnsDiscovery
from caravan.runtime import Backends
from caravan.telemetry import metrics
from tests.support.shop import run_services


async def test_a_frozen_database_makes_a_process_not_ready_within_two_seconds_and_holds_no_read(
    backends: Backends,
) -> None:
    async with run_services(backends, "gateway", "inventory") as shop:
        assert (await shop.client.get("/readyz")).status_code == 200
        mine = {
            await database.fetchval("SELECT pg_backend_pid()") for database in shop.process.health._databases.values()
        }
        rows = await shop.get_database("inventory").fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
        )
        backend = next(iter(mine))
        postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        frozen = [postmaster, *(row["pid"] for row in rows)]
        began = time.monotonic()
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            shop.process.health._checked_at -= 10
            answer = await shop.client.get("/readyz")
            took = time.monotonic() - began
            alive = await shop.client.get("/livez")
            began = time.monotonic()
            read = await shop.client.get("/v1/stock/SKU-1")
            waited = time.monotonic() - began
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert answer.status_code == 503
        assert "inventory" in answer.json()["failing"]
        assert took < 2
        assert alive.status_code == 200
        assert read.status_code == 503
        assert "retry-after" in read.headers
        assert waited < 3.5


async def test_metrics_take_no_more_than_their_share_of_the_process_however_often_they_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, written = 0.0, 0

    def write() -> bytes:
        nonlocal now, written
        now += 0.05
        written += 1
        return b"metrics %d" % written

    monkeypatch.setattr(health, "generate_latest", write)
    asked = health.Health({}, DnsDiscovery("http://{service}"), lambda: now)
    for _ in range(1000):
        now += 0.001
        assert (await asked.answer_probe("/metrics")).body == b"metrics %d" % written
    assert 1 < written <= 5
    now += 10
    assert (await asked.answer_probe("/metrics")).body == b"metrics %d" % written


async def test_metrics_that_took_long_to_write_are_not_answered_again_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now, written = 0.0, 0

    def write() -> bytes:
        nonlocal now, written
        now += 3  # the process was held up, as on a machine that has too much to do
        written += 1
        return b"metrics %d" % written

    monkeypatch.setattr(health, "generate_latest", write)
    asked = health.Health({}, DnsDiscovery("http://{service}"), lambda: now)
    assert (await asked.answer_probe("/metrics")).body == b"metrics 1"
    now += 4
    assert (await asked.answer_probe("/metrics")).body == b"metrics 1"
    now += 1.5
    assert (await asked.answer_probe("/metrics")).body == b"metrics 2"


async def test_who_asks_whether_a_process_is_ready_at_once_has_its_database_asked_once() -> None:
    class Counted:
        asked = 0

        async def fetchval(self, _: str) -> bool:
            self.asked += 1
            await asyncio.sleep(0)
            return False

    database = Counted()
    asked = health.Health({"one": database}, DnsDiscovery("http://{service}"))  # type: ignore[dict-item]
    answers = await asyncio.gather(*(asked.answer_probe("/readyz") for _ in range(500)))
    assert {answer.status_code for answer in answers} == {200}
    assert database.asked == 1


async def test_exemplars_are_told_to_a_scraper_that_asks_for_openmetrics() -> None:
    histogram = metrics.HTTP_DURATION.labels("exemplary", "GET", "/", 200)
    histogram.observe(0.2, {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    asked = health.Health({}, DnsDiscovery("http://{service}"))
    plain = await asked.answer_probe("/metrics", "text/plain;version=0.0.4")
    modern = await asked.answer_probe("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert plain.headers["content-type"].startswith("text/plain")
    assert b"4bf92f3577b34da6a3ce929d0e0e4736" not in plain.body
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert b'# {trace_id="4bf92f3577b34da6a3ce929d0e0e4736"} 0.2' in modern.body
    assert bytes(modern.body).endswith(b"# EOF\n")
