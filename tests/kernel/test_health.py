"""Readiness says within two seconds that a database is not there, also when it has frozen instead of gone."""

import os
import signal
import time
from pathlib import Path

from caravan.runtime import Backends
from tests.shop import running


async def test_a_frozen_database_makes_a_process_not_ready_within_two_seconds_and_holds_no_read(backends: Backends) -> None:
    async with running(backends, "gateway", "inventory") as shop:
        assert (await shop.client.get("/readyz")).status_code == 200
        shop.process.health._checked -= 10
        mine = {await database.fetchval("SELECT pg_backend_pid()") for database in shop.process.health._databases.values()}
        rows = await shop.database("inventory").fetch("SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'")
        backend = next(iter(mine))
        postmaster = int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
        frozen = [postmaster, *(row["pid"] for row in rows)]
        began = time.monotonic()
        try:
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            answer = await shop.client.get("/readyz")
            took = time.monotonic() - began
            alive = await shop.client.get("/livez")
            began = time.monotonic()
            read = await shop.client.get("/v1/stock/SKU-1")
            waited = time.monotonic() - began
        finally:
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        assert answer.status_code == 503 and "inventory" in answer.json()["failing"]
        assert took < 2 and alive.status_code == 200
        assert read.status_code == 503 and "retry-after" in read.headers and waited < 3.5
