"""I11: every order can be followed by its trace through the services that handled it. The spans of a proof are kept in
a file of its folder. A process that is killed takes its last spans with it: what is near a death says nothing.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from caravan.runtime import Backends
from observability.rehearsal.post_server import PostServer
from tests.faults.invariants import rows
from tests.support.collector import Collector
from tests.support.spans import SpanGraph

ORDERS_MAX = 2_500
"""More orders leave more spans than are looked at here: about 100 each."""
BEFORE_DEATH, AFTER_DEATH = 10.0, 60.0
"""Seconds: spans are sent every five, and what a process published before its end may wait for its readers."""
LEAST_SHARE = 0.999
SERVICES = {"orders", "processing", "inventory", "payments", "shipping", "notifications", "analytics"}
"""All of them handle an order that is delivered."""


@dataclass(frozen=True, slots=True)
class Traces:
    """`untouched`: delivered orders that no death was near; `followed`: those of them whose trace leads through all
    services.
    """

    untouched: int
    followed: int
    delivered: int
    spans: int
    orphans: int
    """Consumer spans whose cause is nowhere, though no death was near."""

    def find_violations(self) -> list[str]:
        found = []
        if self.followed < self.untouched * LEAST_SHARE:
            found.append(f"the trace of {self.untouched - self.followed} of {self.untouched} orders has gaps")
        if self.orphans:
            found.append(f"{self.orphans} orphan consumer spans in the traces")
        return found

    def describe(self) -> str:
        return (
            f"{self.followed} of {self.untouched} delivered orders are followed through all services, "
            f"{self.delivered - self.untouched} were near the death of a process; {self.orphans} orphans among "
            f"{self.spans} spans"
        )


@contextmanager
def keep_spans(file: Path) -> Iterator[str]:
    """Where processes send their spans, which are appended to the file."""

    def keep(path: str, body: bytes) -> int:
        if path == "/v1/traces":
            with file.open("ab", buffering=0) as out:
                out.write(body + b"\n")  # JSON of one line
        return 200

    with PostServer(keep) as server:
        yield server.url


def read_spans(file: Path) -> SpanGraph:
    bodies = file.read_bytes().splitlines() if file.exists() else []
    return Collector(bodies={"/v1/traces": bodies}).build_graph()


async def check_traces(backends: Backends, file: Path, deaths: Collection[tuple[float, float]]) -> Traces:
    """`deaths`: of processes that could not send their last spans, each between two Unix times."""
    graph = read_spans(file)
    delivered = {
        row["id"]
        for row in await rows(backends, "orders_read", "SELECT id FROM order_summary WHERE status = 'delivered'")
    }
    orders = await rows(
        backends,
        "orders",
        "SELECT stream, min(trace_id) FILTER (WHERE version = 1) AS trace, extract(epoch FROM min(time)) AS began,"
        " extract(epoch FROM max(time)) AS ended FROM event GROUP BY stream",
    )
    untouched = [
        order["trace"]
        for order in orders
        if order["stream"] in delivered and not _is_near(deaths, float(order["began"]), float(order["ended"]))
    ]
    followed = [trace for trace in untouched if {node.service for node in graph.list_journey(trace)} >= SERVICES]
    orphans = [
        node for node in graph.list_orphans() if node.causes and not _is_near(deaths, node.started_at, node.started_at)
    ]
    return Traces(len(untouched), len(followed), len(delivered), len(graph.by_id), len(orphans))


def _is_near(deaths: Collection[tuple[float, float]], began: float, ended: float) -> bool:
    return any(began <= last + AFTER_DEATH and ended >= first - BEFORE_DEATH for first, last in deaths)
