"""The load generator, a process of its own: reads its task as JSON from stdin, drives keep-alive connections in a
closed loop, writes what it saw as JSON to stdout.

Raw asyncio and httptools: what it costs itself is part of its answer (`cpu_seconds`), and must stay far below what a
request costs the shop.
"""

import asyncio
import json
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httptools
import uvloop

POLL_SECONDS = 0.025
WATCH_EVERY_SECONDS = 0.5
PAID = frozenset({"paid", "shipped", "delivered"})
MAX_LINES = 3


class HttpConnection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._body = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        assert self._waiter is not None
        assert self.transport is not None
        response = self._parser.get_status_code(), bytes(self._body)
        self._body.clear()
        if not self._parser.should_keep_alive():
            self.transport.close()
            self.transport = None
        if not self._waiter.done():
            self._waiter.set_result(response)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError("the shop closed the connection"))

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    async def send_request(self, host: str, port: int, request: bytes) -> tuple[int, bytes]:
        loop = asyncio.get_running_loop()
        if self.transport is None:
            await loop.create_connection(lambda: self, host, port)
        assert self.transport is not None
        self._waiter = loop.create_future()
        self.transport.write(request)
        return await self._waiter


class LoadGenerator:
    """A closed loop: each client sends its next request when the answer to the last one is there."""

    def __init__(self, task: dict[str, Any]) -> None:
        self.task = task
        self.host, self.port = task["host"], task["port"]
        self.random = random.Random(task["seed"])
        self.bodies = list(self._generate_bodies())
        self.accepted: list[tuple[str, float, float, int]] = []
        """Order id, wall time of the answer, seconds it took, and which body."""
        self.latencies: list[float] = []
        self.failures: Counter[str] = Counter()
        self.payment_seconds: list[float] = []
        self.requests = 0

    def _generate_bodies(self) -> Iterator[tuple[bytes, dict[str, int]]]:
        address = {
            "name": "Bench Customer",
            "street": "1 Measure Street",
            "city": "London",
            "postcode": "N1 1AA",
            "country": "GB",
        }
        for _ in range(1000 if self.task["kind"] == "orders" else 0):
            lines = {
                sku: self.random.randint(1, 3)
                for sku in self.random.sample(
                    self.task["skus"], min(len(self.task["skus"]), self.random.randint(1, MAX_LINES))
                )
            }
            order = {
                "lines": [{"sku": sku, "quantity": quantity} for sku, quantity in lines.items()],
                "shipping_address": address,
                "payment": {"method": "card", "token": "tok_ok"},
            }
            yield json.dumps(order).encode(), lines

    async def run_client(
        self, number: int, ends_at: float, on_response: Callable[[int, bytes, float, int], None]
    ) -> None:
        connection = HttpConnection()
        request = self._generate_orders(number) if self.task["kind"] == "orders" else self._generate_gets()
        while time.perf_counter() < ends_at:
            body, content = next(request)
            started = time.perf_counter()
            try:
                status, response = await connection.send_request(self.host, self.port, content)
            except OSError as error:
                self.failures[type(error).__name__] += 1
                await asyncio.sleep(0.1)
                continue
            self.requests += 1
            on_response(status, response, time.perf_counter() - started, body)
        connection.close()

    def _generate_orders(self, number: int) -> Iterator[tuple[int, bytes]]:
        token = self.task["tokens"][number % len(self.task["tokens"])]
        head = (
            f"POST /v1/orders HTTP/1.1\r\nhost: {self.host}:{self.port}\r\nauthorization: Bearer {token}\r\n"
            "content-type: application/json\r\nidempotency-key: "
        ).encode()
        key = f"{uuid.UUID(int=self.random.getrandbits(128))}-"
        count = 0
        while True:
            count += 1
            body = self.random.randrange(len(self.bodies))
            content = self.bodies[body][0]
            yield body, b"%b%b%d\r\ncontent-length: %d\r\n\r\n%b" % (head, key.encode(), count, len(content), content)

    def _generate_gets(self) -> Iterator[tuple[int, bytes]]:
        token = f"authorization: Bearer {self.task['staff']}\r\n" if "staff" in self.task else ""
        requests = [
            f"GET {path} HTTP/1.1\r\nhost: {self.host}:{self.port}\r\n{token}\r\n".encode()
            for path in self.task["paths"]
        ]
        while True:
            yield 0, self.random.choice(requests)

    def _record_response(self, status: int, response: bytes, seconds: float, body: int) -> None:
        if status == 202:
            offset = response.index(b'"id":"') + 6
            self.accepted.append((response[offset : offset + 36].decode(), time.time(), seconds, body))
        elif status == 200:
            self.latencies.append(seconds)
        else:
            self.failures[f"{status} {response[:160].decode(errors='replace')}"] += 1

    async def watch_payments(self, ends_at: float) -> None:
        """As a client sees it: twice a second, how long until the newest order reads as paid."""
        connection = HttpConnection()
        head = f"HTTP/1.1\r\nhost: {self.host}:{self.port}\r\nauthorization: Bearer {self.task['staff']}\r\n\r\n"
        while time.perf_counter() < ends_at:
            await asyncio.sleep(WATCH_EVERY_SECONDS)
            if not self.accepted:
                continue
            order, accepted_at, _, _ = self.accepted[-1]
            status = ""
            while status not in PAID and time.time() - accepted_at < 60:
                code, response = await connection.send_request(
                    self.host, self.port, f"GET /v1/orders/{order} {head}".encode()
                )
                status = json.loads(response).get("status", "") if code == 200 else ""
                if status not in PAID:
                    await asyncio.sleep(POLL_SECONDS)
            self.payment_seconds.append(time.time() - accepted_at)
        connection.close()

    async def run(self) -> dict[str, Any]:
        clients = range(self.task["clients"])
        if self.task["warm_up"]:
            warm_until = time.perf_counter() + self.task["warm_up"]
            await asyncio.gather(*(self.run_client(number, warm_until, self._record_response) for number in clients))
        warmed, self.accepted, self.latencies, self.requests = self.accepted, [], [], 0
        began, cpu = time.time(), time.process_time()
        ends_at = time.perf_counter() + self.task["seconds"]
        watching = [self.watch_payments(ends_at)] if self.task.get("staff") else []
        await asyncio.gather(
            *(self.run_client(number, ends_at, self._record_response) for number in clients), *watching
        )
        return {
            "began": began,
            "seconds": self.task["seconds"],
            "requests": self.requests,
            "cpu_seconds": time.process_time() - cpu,
            "accepted": self.accepted,
            "warmed": warmed,
            "bodies": [lines for _, lines in self.bodies],
            "latencies": self.latencies,
            "failures": dict(self.failures),
            "watched": self.payment_seconds,
        }


if __name__ == "__main__":
    json.dump(uvloop.run(LoadGenerator(json.load(sys.stdin)).run()), sys.stdout)
