"""The bench's own parts: what the load generator sends and counts, and how results are shown."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.load import LoadGenerator
from bench.report import render_markdown
from bench.rounds import compute_percentiles

ROUND: dict[str, Any] = {
    "clients": 8,
    "seconds": 60.0,
    "hot": False,
    "spin_seconds": [0.1, 0.11],
    "ceilings": {"empty_endpoint_per_second": 5000.0, "insert_commit_per_second": None},
    "accepted_per_second": 312.4,
    "paid_per_second": 311.9,
    "answer_seconds": {"n": 18744, "p50": 0.02, "p95": 0.04, "p99": 0.06, "max": 0.2},
    "paid_seconds": {"n": 5000, "p50": 0.2, "p95": 0.4, "p99": 0.6, "max": 0.9},
    "read_as_paid_seconds": {"n": 3},
    "backlog_share_at_end": 0.001,
    "backlog_seconds": 0.3,
    "memory_mib": {"app": 300.0, "all": 520.5},
    "outbox_seconds": {"all": {"n": 100, "p50": 0.05, "p95": 0.1, "p99": 0.2}},
    "cost_per_order": {"app_cpu_ms": 2.5, "postgres_cpu_ms": 1.25, "redis_cpu_ms": None, "sql_statements": 9.3},
    "load_generator_cpu_ms_per_request": 0.05,
    "problems": [],
}
RESULT: dict[str, Any] = {
    "date": "2026-01-02T03:04:05+00:00",
    "commit": "abc1234",
    "machine": {"cores": 2, "memory_gib": 8.0, "python": "3.11", "system": "Linux"},
    "load_average": [1.0, 1.0, 1.0],
    "postgres": {},
}


@asynccontextmanager
async def answering(body: bytes, status: str = "202 Accepted") -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that gives one answer to everything; its port, and the requests that it got."""
    seen: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (int(line[16:]) for line in head.split(b"\r\n") if line.startswith(b"content-length: ")), 0
                )
                seen.append(head + await reader.readexactly(length))
                writer.write(b"HTTP/1.1 %b\r\ncontent-length: %d\r\n\r\n%b" % (status.encode(), len(body), body))
        except asyncio.IncompleteReadError:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], seen


def task(port: int, **more: Any) -> dict[str, Any]:
    base = {
        "kind": "orders",
        "host": "127.0.0.1",
        "port": port,
        "clients": 2,
        "seconds": 0.2,
        "warm_up": 0.0,
        "seed": 1,
        "tokens": ["a", "b"],
    }
    return {**base, "skus": ["A", "B", "C", "D"], **more}


async def test_each_client_sends_orders_of_its_customer_each_with_a_key_of_its_own() -> None:
    order = "01890000-0000-7000-8000-000000000001"
    async with answering(b'{"id":"%b","status":"created"}' % order.encode()) as (port, seen):
        result = await LoadGenerator(task(port)).run()
    keys = [line for request in seen for line in request.split(b"\r\n") if line.startswith(b"idempotency-key: ")]
    assert len(set(keys)) == len(seen) == len(result["accepted"]) == result["requests"] > 10
    assert {accepted[0] for accepted in result["accepted"]} == {order}
    assert {request.partition(b"Bearer ")[2][:1] for request in seen} == {b"a", b"b"}
    bodies = [json.loads(request.partition(b"\r\n\r\n")[2]) for request in seen]
    assert all(1 <= len(body["lines"]) <= 3 for body in bodies)
    assert result["failures"] == {}


async def test_what_is_not_accepted_is_counted_with_its_reason() -> None:
    async with answering(b'{"detail":"no"}', "409 Conflict") as (port, _):
        result = await LoadGenerator(task(port)).run()
    assert result["accepted"] == []
    assert list(result["failures"]) == ['409 {"detail":"no"}']


async def test_the_warm_up_does_not_count() -> None:
    async with answering(b'{"id":"01890000-0000-7000-8000-000000000001"}') as (port, seen):
        result = await LoadGenerator(task(port, warm_up=0.1, seconds=0.1)).run()
    assert len(result["accepted"]) == result["requests"] < len(seen) == len(result["accepted"]) + len(result["warmed"])


@pytest.mark.parametrize(
    ("n", "names"), [(10, {"n"}), (100, {"n", "p50", "p95", "max"}), (1000, {"n", "p50", "p95", "p99", "max"})]
)
def test_a_percentile_stands_only_where_enough_samples_carry_it(n: int, names: set[str]) -> None:
    assert set(compute_percentiles([0.001 * number for number in range(n)])) == names


def test_a_result_is_a_table_with_a_column_per_round() -> None:
    text = render_markdown({**RESULT, "rounds": [ROUND, {**ROUND, "hot": True}]})
    assert "| | 8 clients | 8 clients, one product |" in text
    assert "| orders paid a second | 312 | 312 |" in text
    assert "| CPU ms an order: app / Postgres / Redis | 2.50 / 1.25 / – |" in text
    assert "Problems" not in text


def test_a_round_with_wrong_books_names_them() -> None:
    text = render_markdown({**RESULT, "rounds": [{**ROUND, "problems": ["3 accepted orders are not stored"]}]})
    assert "- 8 clients: 3 accepted orders are not stored" in text
    assert "| books | 1 problems |" in text


def test_what_a_shop_takes_at_rest_is_shown_by_part() -> None:
    idle = {"app_percent": 0.86, "postgres_percent": 0.4, "redis_percent": None, "sql_statements_per_second": 17.09}
    text = render_markdown({**RESULT, "rounds": [ROUND], "idle": idle})
    assert "At rest, of one core: app 0.86 %, postgres 0.40 %, redis – %; 17.1 SQL statements a second." in text
    assert "At rest" not in render_markdown({**RESULT, "rounds": [ROUND]})
    text = render_markdown(
        {**RESULT, "rounds": [ROUND], "idle": {**idle, "services_percent": {"gateway": 0.213, "orders": 0.1}}}
    )
    assert "Of these by process: gateway 0.21 %, orders 0.10 %." in text
