"""`python -m bench.telemetry`: what spans, exemplars and exported log lines cost an order, in rounds of one run that
alternate between two shops, one of which exports to a collector.

The collector is this process, which takes everything and keeps nothing: what a real one does is its own time.
"""

import asyncio
import statistics
from collections import Counter
from contextlib import AsyncExitStack
from typing import Annotated, Any

import httpx2
import typer

from bench.__main__ import read_commit
from bench.rounds import RoundPlan, measure_round, prepare_shop
from bench.shop_process import Target, start_own_shop
from caravan import settings
from cli.api_client import ApiClient, read_operator_secret
from observability.rehearsal.post_server import PostServer

OFF, ON = "off", "on"
LEAST_RATIO = 0.9
"""Of the orders a second without telemetry."""
CEILING_SECONDS = 1.0


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 20,
    clients: Annotated[int, typer.Option(min=1)] = 32,
    pairs: Annotated[int, typer.Option(min=1, help="Rounds of each shop that count, after one that does not.")] = 3,
) -> None:
    """Measure orders with and without telemetry. Exit status 1 when the median ratio of orders paid a second is below
    0.9, or a round's books are wrong.
    """
    rows, taken = asyncio.run(measure_pairs(RoundPlan(clients, seconds, 3, False, CEILING_SECONDS), pairs))
    print(render_markdown(rows, taken))
    if compute_ratio(rows, "paid_per_second") < LEAST_RATIO or any(row["problems"] for row in rows):
        raise typer.Exit(1)


async def measure_pairs(plan: RoundPlan, pairs: int) -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row for each round that counts, and how many bytes the collector took, by path."""
    taken: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []

    def take(path: str, body: bytes) -> int:
        taken[path] += len(body)
        return 200

    async with AsyncExitStack() as stack:
        collector = stack.enter_context(PostServer(take))
        shops = {
            name: await stack.enter_async_context(start_own_shop({}, settings={"CARAVAN_OTLP_ENDPOINT": address}))
            for name, address in ((OFF, ""), (ON, collector.url))
        }
        prepared = {name: await _prepare(stack, target) for name, target in shops.items()}
        for pair in range(pairs + 1):
            for name in (OFF, ON) if pair % 2 else (ON, OFF):
                api, emails = prepared[name]
                measured = await measure_round(api, shops[name], emails, plan)
                row = {"pair": pair, "telemetry": name, **measured}
                print(
                    f"pair {pair}, telemetry {name}: {row['paid_per_second']:.0f} paid a second,"
                    f" {row['cost_per_order']['app_cpu_ms']:.2f} ms of the app's CPU an order",
                    *row["problems"],
                    flush=True,
                )
                rows += [row] if pair else []
    return rows, taken


async def _prepare(stack: AsyncExitStack, target: Target) -> tuple[ApiClient, list[str]]:
    http = await stack.enter_async_context(httpx2.AsyncClient(base_url=target.url, timeout=60))
    assert target.data
    api = ApiClient(http, read_operator_secret(settings.Settings(data=target.data)), print)
    return api, await prepare_shop(api)


def read_figure(row: dict[str, Any], name: str) -> float:
    return float(row[name] if name in row else row["cost_per_order"][name])


def compute_ratio(rows: list[dict[str, Any]], name: str) -> float:
    """Of the pairs' own, the median: with telemetry to without."""
    by_pair: dict[int, dict[str, float]] = {}
    for row in rows:
        by_pair.setdefault(row["pair"], {})[row["telemetry"]] = read_figure(row, name)
    return statistics.median(pair[ON] / pair[OFF] for pair in by_pair.values())


def render_markdown(rows: list[dict[str, Any]], taken: Counter[str]) -> str:
    lines = [f"# Telemetry, {read_commit()}", "", "| figure, median | off | on | on / off |", "|---|---|---|---|"]
    for name, label in (
        ("accepted_per_second", "orders accepted a second"),
        ("paid_per_second", "orders paid a second"),
        ("app_cpu_ms", "CPU ms an order, app"),
        ("postgres_cpu_ms", "CPU ms an order, Postgres"),
    ):
        off, on = (
            statistics.median(read_figure(row, name) for row in rows if row["telemetry"] == which)
            for which in (OFF, ON)
        )
        lines.append(f"| {label} | {off:.2f} | {on:.2f} | {compute_ratio(rows, name):.3f} |")
    sizes = ", ".join(f"{path} {count / 2**20:.1f} MiB" for path, count in sorted(taken.items()))
    return "\n".join([*lines, "", f"The collector took {sizes or 'nothing'}."])


if __name__ == "__main__":
    typer.run(main)
