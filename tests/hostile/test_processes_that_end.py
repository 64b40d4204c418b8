"""Processes of a service that end or freeze at once: who reads meanwhile is answered by those that are left, or told within two seconds."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.hostile.apart import Apart, apart


@pytest.fixture(scope="module")
async def shop() -> AsyncIterator[Apart]:
    async with apart() as found:
        yield found


async def _read(client: httpx2.AsyncClient, path: str, seen: Counter[int]) -> None:
    while True:
        seen[(await client.get(path)).status_code] += 1


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_reads_are_answered_while_two_of_three_processes_end_at_once(shop: Apart, how: signal.Signals) -> None:
    seen: Counter[int] = Counter()
    async with httpx2.AsyncClient(base_url=shop.program.url, timeout=30, trust_env=False) as client:
        for attempt in range(5):
            ending = await shop.more("inventory", 2)
            await asyncio.sleep(1.5)  # both are known and asked by now: places are read again every second
            reading = [asyncio.create_task(_read(client, f"/v1/stock/{shop.sku}", seen)) for _ in range(8)]
            try:
                await asyncio.sleep(0.5)
                for process in ending:
                    process.send_signal(how)
                await asyncio.gather(*(process.wait() for process in ending))
                await asyncio.sleep(2)
                assert not [task.exception() for task in reading if task.done()]
            finally:
                for task in reading:
                    task.cancel()
                await asyncio.gather(*reading, return_exceptions=True)
            assert set(seen) == {200}, (attempt, seen)
