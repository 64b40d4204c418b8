"""The clients of a burst, a process of its own: orders are sent at a fixed rate, whatever becomes of those before them
(an open loop), over so many connections at most. Reads its task as JSON from stdin, writes what was answered to stdout.

`bench/load.py` is the closed loop, whose clients wait for each answer before they ask again.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import uvloop

from bench.load import HttpConnection, LoadGenerator

TICK_SECONDS = 0.005
TIMEOUT_SECONDS = 60.0
"""Longest wait for the answers that are outstanding at the end."""


class Connection(HttpConnection):
    """Remembers whether the last answer said when to come again."""

    def __init__(self, requests: Iterator[tuple[int, bytes]]) -> None:
        super().__init__()
        self.requests = requests
        self.has_retry_after = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"retry-after":
            self.has_retry_after = value.isdigit()


class OpenLoop(LoadGenerator):
    """`task`: as of the closed loop, with `rate` in requests a second; `clients` is the number of connections."""

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__(task)
        self.statuses: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        """Bodies of answers that neither took an order nor said when to come again."""
        self.refused_seconds: list[float] = []
        self.without_retry_after = 0
        self.no_connection_free = 0
        self.sent_again = 0

    async def run(self) -> dict[str, Any]:
        idle = [Connection(self._generate_orders(number)) for number in range(self.task["clients"])]
        under_way: set[asyncio.Task[None]] = set()
        began, due = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < self.task["seconds"]:
            target = int(passed * self.task["rate"])
            for _ in range(target - due):
                if not idle:
                    self.no_connection_free += 1
                    continue
                task = asyncio.create_task(self._send_order(idle.pop(), idle))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            due = target
            await asyncio.sleep(TICK_SECONDS)
        if under_way:
            _, unanswered = await asyncio.wait(under_way, timeout=TIMEOUT_SECONDS)
            if unanswered:
                self.statuses["no answer"] = len(unanswered)
        return {
            "due": due,
            "no_connection_free": self.no_connection_free,
            "sent_again": self.sent_again,
            "statuses": dict(self.statuses),
            "problems": dict(self.problems.most_common(5)),
            "without_retry_after": self.without_retry_after,
            "accepted": [[order_id, seconds] for order_id, _, seconds, _ in self.accepted],
            "refused_seconds": self.refused_seconds,
            "cpu_seconds": time.process_time(),
        }

    async def _send_order(self, connection: Connection, idle: list[Connection]) -> None:
        body, content = next(connection.requests)
        connection.has_retry_after = False
        started = time.perf_counter()
        is_reused = connection.transport is not None
        try:
            try:
                status, response = await connection.send_request(self.host, self.port, content)
            except OSError:
                if not is_reused:
                    raise
                # The shop closed it, idle for seconds, in the moment of the request: as every client of HTTP does it,
                # the request, which has a key, is sent again.
                self.sent_again += 1
                status, response = await connection.send_request(self.host, self.port, content)
        except OSError as error:
            self.statuses[type(error).__name__] += 1
        else:
            self._count_response(connection, status, response, time.perf_counter() - started, body)
        idle.append(connection)

    def _count_response(self, connection: Connection, status: int, response: bytes, seconds: float, body: int) -> None:
        self.statuses[str(status)] += 1
        if status == 202:
            self._record_response(status, response, seconds, body)
        elif status == 429:
            self.refused_seconds.append(seconds)
            self.without_retry_after += not connection.has_retry_after
        else:
            self.problems[f"{status} {json.loads(response).get('detail', '')}"] += 1


if __name__ == "__main__":
    json.dump(uvloop.run(OpenLoop(json.load(sys.stdin)).run()), sys.stdout)
