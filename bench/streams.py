"""How many live streams one process carries: `python -m bench.streams`, and with `--websocket` as many subscriptions,
each on a WebSocket of its own.

It starts a shop of its own, opens streams on the stock of some products over TCP, and changes that stock as fast as the
shop lets it. Measured are the memory of an open stream, the events a second that reach the clients, and the time from
the request that changes the stock until each client has the event. Clients and load share the machine with the shop.
"""

import asyncio
import json
import re
import struct
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from typing import Annotated, Any

import httpx2
import typer

from bench.__main__ import RESULTS, describe_machine, read_commit
from bench.ceilings import measure_empty_endpoint
from bench.shop_process import Target, measure_cost, measure_memory, start_own_shop
from caravan.settings import Settings
from cli.api_client import ApiClient, read_operator_secret

EVENT_ID = re.compile(rb"id: (\d+)\nevent: stock\n")
ON_HAND = re.compile(rb'"stockChanges":\{"onHand":(\d+)\}')
FIRST_RECEIPT = 1000
OPEN_AT_ONCE = 50
SETTLE_SECONDS = 3.0
MOVERS = 4


class StreamClient(asyncio.Protocol):
    """One open stream. It notes when each version came."""

    def __init__(self, sku: str, received: "Received") -> None:
        self._sku = sku
        self._received = received
        self._rest = b""
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"GET /v1/stock/%s/events HTTP/1.1\r\nHost: shop\r\n\r\n" % self._sku.encode())

    def data_received(self, data: bytes) -> None:
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        for block in blocks:
            found = EVENT_ID.search(block)
            if found:
                self._received.note_event(self._sku, int(found[1]))
                if not self.begun.done():
                    self.begun.set_result(None)

    def connection_lost(self, _: Exception | None) -> None:
        self._received.lost_streams += 1
        if not self.begun.done():
            self.begun.set_exception(ConnectionError(f"a stream did not begin: {self._rest[:200]!r}"))


class SocketClient(StreamClient):
    """The same by a subscription on a WebSocket. Each change adds one to the stock, which so tells its version."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        query = f'subscription {{ stockChanges(sku: "{self._sku}") {{ onHand }} }}'
        transport.write(
            b"GET /graphql HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        self._messages = [
            {"type": "connection_init"},
            {"type": "subscribe", "id": "1", "payload": {"query": query}},
        ]

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        end = 0
        for found in ON_HAND.finditer(data):
            self._received.note_event(self._sku, int(found[1]) - FIRST_RECEIPT + 1)
            if not self.begun.done():
                self.begun.set_result(None)
            end = found.end()
        self._rest = data[end:][-200:]
        if self._messages and (data.endswith(b"\r\n\r\n") or b"connection_ack" in data):
            payload = json.dumps(self._messages.pop(0)).encode()
            self.transport.write(struct.pack("!BBH4x", 0x81, 0x80 | 126, len(payload)) + payload)


class Received:
    """What all clients got together."""

    def __init__(self) -> None:
        self.events = 0
        self.lost_streams = 0
        self.delays: list[float] = []
        self.sent_at: dict[tuple[str, int], float] = {}
        self._waiting: defaultdict[tuple[str, int], list[float]] = defaultdict(list)

    def note_event(self, sku: str, version: int) -> None:
        self.events += 1
        self._waiting[sku, version].append(time.perf_counter())

    def collect_delays(self) -> list[float]:
        """From the request that made a version until each client had it. A client is shown the newest version alone."""
        return [at - self.sent_at[key] for key, times in self._waiting.items() if key in self.sent_at for at in times]


def main(
    streams: Annotated[int, typer.Option(min=1, help="Streams that are open at the same time.")] = 2000,
    products: Annotated[int, typer.Option(min=1, help="Products that they watch.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long their stock is changed.")] = 20,
    websocket: Annotated[bool, typer.Option("--websocket", help="Subscriptions over WebSockets.")] = False,
    results: Annotated[Path, typer.Option(help="Folder for the result file.")] = RESULTS,
) -> None:
    """Measure live streams. Exit status 1 when a stream was lost."""
    result = asyncio.run(run(streams, products, seconds, SocketClient if websocket else StreamClient))
    kind = "sockets" if websocket else "streams"
    path = results / f"{result['date'][:10]}-{result['commit']}-{kind}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    print(f"written to {path}")
    if result["lost_streams"]:
        raise typer.Exit(1)


async def run(streams: int, products: int, seconds: float, client_type: type[StreamClient]) -> dict[str, Any]:
    async with start_own_shop({}) as target, httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
        api = ApiClient(http, read_operator_secret(Settings(data=target.data or Path())), print)
        skus = [f"STREAM-{number}" for number in range(products)]
        for sku in skus:
            await change_stock(api, sku, FIRST_RECEIPT)
        received = Received()
        before = measure_app_memory(target)
        clients = await open_streams(target, [skus[n % products] for n in range(streams)], received, client_type)
        await asyncio.sleep(SETTLE_SECONDS)
        kibibytes = (measure_app_memory(target) - before) * 1024 / streams
        received.events, cost, began = 0, await measure_cost(target), time.perf_counter()
        end = began + seconds
        changes = sum(await asyncio.gather(*(move_stock(api, skus[n::MOVERS], received, end) for n in range(MOVERS))))
        await asyncio.sleep(1.0)
        elapsed = time.perf_counter() - began - 1.0
        cpu = ((await measure_cost(target)).app_cpu or 0) - (cost.app_cpu or 0)
        lost = received.lost_streams
        delays = quantiles(received.collect_delays() or [0.0, 0.0], n=100)
        for client in clients:
            client.transport.abort()
        return {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": read_commit(),
            **await describe_machine(target),
            "empty_endpoint_per_second": round(await measure_empty_endpoint(target, 8, 3)),
            "streams": streams,
            "websockets": client_type is SocketClient,
            "products": products,
            "seconds": round(elapsed, 1),
            "kibibytes_per_stream": round(kibibytes, 1),
            "changes_per_second": round(changes / elapsed),
            "deliveries_per_second": round(received.events / elapsed),
            "shop_cpu_share": round(cpu / elapsed, 2),
            "delay_p50_ms": round(delays[49] * 1000),
            "delay_p95_ms": round(delays[94] * 1000),
            "lost_streams": lost,
        }


def measure_app_memory(target: Target) -> float:
    """MiB of the shop's process."""
    return (measure_memory(target) or {}).get("app", 0.0)


async def open_streams(
    target: Target, skus: list[str], received: Received, client_type: type[StreamClient]
) -> list[StreamClient]:
    host, port = target.address
    loop = asyncio.get_running_loop()
    clients: list[StreamClient] = []
    for start in range(0, len(skus), OPEN_AT_ONCE):
        opened = await asyncio.gather(
            *(
                loop.create_connection(lambda sku=sku: client_type(sku, received), host, port)  # type: ignore[misc]
                for sku in skus[start : start + OPEN_AT_ONCE]
            )
        )
        await asyncio.gather(*(client.begun for _, client in opened))
        clients += [client for _, client in opened]
    return clients


async def move_stock(api: ApiClient, skus: list[str], received: Received, end: float) -> int:
    changes = 0
    while time.perf_counter() < end:
        for sku in skus:
            sent_at = time.perf_counter()
            received.sent_at[sku, await change_stock(api, sku, 1)] = sent_at
            changes += 1
    return changes


async def change_stock(api: ApiClient, sku: str, quantity: int) -> int:
    """The version of the stock that a receipt makes."""
    body = {"kind": "receive", "quantity": quantity, "reason": "bench"}
    return int((await api.send_request("POST", f"/v1/stock/{sku}/movements", body=body)).json()["version"])


if __name__ == "__main__":
    typer.run(main)
