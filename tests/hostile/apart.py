"""A shop whose services have a process each, and what its other clients see while somebody means harm."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.support.forks import Process
from tests.support.program import START_SECONDS, Program, launch_caravan
from tests.support.shop import wait_until

FIRST, OTHERS, LAST = "identity", ("catalog", "inventory", "orders"), "gateway"
OTHER_ADDRESS = "127.0.0.2"
SOON = 1.0
"""In seconds: who does no harm is answered within it."""
Talk = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Apart:
    """`program.processes` has the services in their order; `more` starts another process of one."""

    program: Program
    settings: dict[str, str]
    urls: dict[str, str]
    """Where each service itself listens."""
    sku: str = ""
    who: dict[str, str] = field(default_factory=dict)
    order_id: str = ""

    async def more(self, service: str, count: int) -> list[Process]:
        names = [f"{service}-{len(self.program.processes) + number}" for number in range(count)]
        found = await asyncio.gather(
            *(launch_caravan(["run", service], self.settings, self.program.data, name, forked=True) for name in names)
        )
        self.program.processes[:0] = [process for process, _ in found]
        return [process for process, _ in found]

    async def talk(self, raw: bytes = b"") -> Talk:
        url = self.program.client.base_url
        reader, writer = await asyncio.open_connection(url.host, url.port)
        writer.write(raw)
        return reader, writer

    async def answer(self, raw: bytes, *, seconds: float = 15) -> bytes:
        """All that comes until the server closes."""
        reader, writer = await self.talk(raw)
        got = b""
        try:
            async with asyncio.timeout(seconds):
                while part := await reader.read(65536):
                    got += part
        except ConnectionError:
            pass
        finally:
            writer.close()
        return got

    @asynccontextmanager
    async def others_served(self, *, least: int = 100, every: float = 0.01) -> AsyncIterator[list[int]]:
        """Others ask each service all the while; at the end they were all answered, and soon."""
        paths = ["/v1/products?limit=1", f"/v1/stock/{self.sku}", f"/v1/orders/{self.order_id}", "/v1/users/me"]
        seen: list[tuple[str, int, float]] = []
        statuses: list[int] = []

        async def ask(client: httpx2.AsyncClient) -> None:
            while True:
                for path in paths:
                    began = time.monotonic()
                    status = (await client.get(path, headers=self.who)).status_code
                    seen.append((path, status, time.monotonic() - began))
                    statuses.append(status)
                    await asyncio.sleep(every)

        # From another address than those who do harm, where the system has one.
        transport = httpx2.AsyncHTTPTransport(local_address=OTHER_ADDRESS if sys.platform == "linux" else None)
        async with httpx2.AsyncClient(
            base_url=self.program.url, timeout=30, trust_env=False, transport=transport
        ) as client:
            asking = asyncio.create_task(ask(client))
            try:
                yield statuses

                async def enough() -> bool:
                    return asking.done() or len(seen) >= least

                await wait_until(enough, seconds=30)
                if asking.done():
                    asking.result()
            finally:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        assert not [entry for entry in seen if entry[1] != 200], [entry for entry in seen if entry[1] != 200][:10]
        times = sorted(entry[2] for entry in seen)
        assert times[len(times) * 99 // 100] < SOON, (
            f"p99 {times[len(times) * 99 // 100]:.2f} s of {len(times)}, worst {times[-1]:.2f} s"
        )


@asynccontextmanager
async def apart(**settings: str) -> AsyncIterator[Apart]:
    """With a product, a customer and her order."""
    data = Path(tempfile.mkdtemp(prefix="caravan-hostile-"))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, shutil.rmtree, data, True)
        processes: list[Process] = []
        urls: dict[str, str] = {}
        stack.push_async_callback(_stop, processes)
        for names in ((FIRST,), OTHERS, (LAST,)):
            started = await asyncio.gather(
                *(launch_caravan(["run", name], settings, data, name, forked=True) for name in names),
                return_exceptions=True,
            )
            processes += [found[0] for found in started if not isinstance(found, BaseException)]
            for name, found in zip(names, started, strict=True):
                if isinstance(found, BaseException):
                    raise found
                urls[name] = found[1]
        shop = Apart(Program(urls[LAST], data, processes), settings, urls)
        stack.push_async_callback(shop.program.client.aclose)

        async def all_routed() -> bool:
            paths = (await shop.program.client.get("/openapi.json")).json().get("paths", {})
            return all(path in paths for path in ("/v1/users", "/v1/products", "/v1/orders", "/v1/stock/{sku}"))

        await wait_until(all_routed, seconds=START_SECONDS, every=0.1)
        shop.sku, shop.who = await shop.program.create_product(stock=1000), await shop.program.register_customer()
        placed = await shop.program.place_order(shop.who, shop.sku)
        assert placed.status_code == 202, placed.text
        shop.order_id = placed.json()["id"]
        yield shop
        for log in data.glob("*.log"):
            unforeseen = [
                line[:5000]
                for line in log.read_text(errors="replace").splitlines()
                if "unhandled" in line or "Traceback" in line
            ]
            assert not unforeseen, (log.name, unforeseen[:3])


async def _stop(processes: list[Process]) -> None:
    for process in processes:
        if process.returncode is None:
            process.terminate()
    for process in processes:
        try:
            await asyncio.wait_for(process.wait(), 30)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
