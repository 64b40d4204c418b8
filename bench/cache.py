"""`python -m bench.cache`: product lists with and without the shared cache, in turns of one run, and with a Redis that
does not answer; writes bench/results/<date>-<commit>-cache.json and .md.

Each of two shops has 10,000 products; one runs with CARAVAN_CACHE=false. Rounds alternate between them: each list
alone, and all in turns, as a shop's readers ask for them. At the end the Redis of the other shop is stopped in its
tracks, and its lists are read once more.
"""

import asyncio
import json
import random
import signal
import statistics
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from bench.__main__ import RESULTS, read_commit
from bench.ceilings import measure_empty_endpoint, run_load
from bench.shop_process import Target, start_own_shop
from caravan import settings
from caravan.embedded import valkey
from caravan.embedded.paths import find_paths
from cli.api_client import ApiClient, read_operator_secret

PRODUCTS = 10_000
CATEGORIES = 20
WORDS = tuple(
    f"{first}{second}"
    for first in ("enamel", "steel", "copper", "linen", "oak", "glass")
    for second in ("mug", "pot", "lamp", "chair", "tray", "bowl", "rack", "jar")
)
PATHS = {
    "20 newest": "/v1/products",
    "100 by price": "/v1/products?sort=price&limit=100",
    "20 of a category": "/v1/products?category=bench3",
    "50 of a search": "/v1/products?search=oaktray&limit=50",
    "20 of another search": "/v1/products?search=copperjar+or+glassbowl",
}
ALL = "all in turns"
LISTS = {**{label: [path] for label, path in PATHS.items()}, ALL: list(PATHS.values())}
WITH, WITHOUT, STOPPED = "with", "without", "redis stopped"


def main(
    seconds: Annotated[float, typer.Option(min=1, help="Length of each round.")] = 5,
    clients: Annotated[str, typer.Option(help="Rounds for each of these numbers of clients.")] = "1,8",
    repeat: Annotated[int, typer.Option(min=1, help="Rounds of each list, number of clients and shop.")] = 3,
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
) -> None:
    """Measure lists. Exit status 1 when all lists in turns take more than a fifth of the time without the cache, or a
    list without Redis takes 10 ms longer than without the cache.
    """
    result = asyncio.run(measure_lists([int(number) for number in clients.split(",")], seconds, repeat))
    text = render_markdown(result)
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{result['date'][:10]}-{result['commit']}-cache"
    path.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    print(text)
    if not all(row["is_within_bounds"] for row in result["rows"]):
        raise typer.Exit(1)


async def measure_lists(client_counts: list[int], seconds: float, repeat: int) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        shops = {
            name: await stack.enter_async_context(start_own_shop({}, settings={"CARAVAN_CACHE": value}))
            for name, value in ((WITH, "true"), (WITHOUT, "false"))
        }
        for target in shops.values():
            await make_products(target)
        rounds = [
            (clients, label, name)
            for _ in range(repeat)
            for clients in client_counts
            for label in LISTS
            for name in (WITH, WITHOUT)
        ]
        p95: dict[tuple[int, str, str], list[float]] = {}
        for clients, label, name in rounds:
            p95.setdefault((clients, label, name), []).append(
                await measure_p95(shops[name], LISTS[label], clients, seconds)
            )
        empty = await measure_empty_endpoint(shops[WITH], client_counts[-1], seconds)
        server = valkey.find_running(find_paths(shops[WITH].data or Path()))
        assert server is not None
        server.process.send_signal(signal.SIGSTOP)
        try:
            for clients in client_counts:
                for label, paths in LISTS.items():
                    p95[clients, label, STOPPED] = [await measure_p95(shops[WITH], paths, clients, seconds)]
        finally:
            server.process.send_signal(signal.SIGCONT)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": read_commit(),
        "empty_endpoint_per_second": round(empty),
        "rows": [build_row(clients, label, p95) for clients in client_counts for label in LISTS],
    }


async def make_products(target: Target) -> None:
    async with httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
        api = ApiClient(http, read_operator_secret(settings.Settings(data=target.data or Path())), print)
        products = [
            {
                "sku": f"BENCH-{number}",
                "name": f"{random.choice(WORDS)} and {random.choice(WORDS)}, {number}",
                "description": "Holds tea, coffee and whatever else is measured. " * 3,
                "category": f"bench{number % CATEGORIES}",
                "price": {"amount": 100 + number, "currency": "GBP"},
                "attributes": {"material": "enamel", "volume_ml": 350},
            }
            for number in range(PRODUCTS)
        ]
        for first in range(0, PRODUCTS, 500):
            await api.send_request("PUT", "/v1/products", body={"products": products[first : first + 500]})


async def measure_p95(
    target: Target, paths: list[str], clients: int, seconds: float, staff: str | None = None
) -> float:
    """Milliseconds. `staff`: a token to send."""
    host, port = target.address
    task = {"kind": "get", "paths": paths, "host": host, "port": port, "clients": clients, "seconds": seconds}
    task |= {"staff": staff} if staff else {}
    result = await run_load({**task, "warm_up": 0.5, "seed": 1, "tokens": []})
    if result["failures"]:
        raise SystemExit(f"{paths}: {result['failures']}")
    return 1000 * float(statistics.quantiles(result["latencies"], n=20)[-1])


def build_row(clients: int, label: str, p95: dict[tuple[int, str, str], list[float]]) -> dict[str, Any]:
    """Medians of the rounds."""
    milliseconds = {name: statistics.median(p95[clients, label, name]) for name in (WITH, WITHOUT, STOPPED)}
    ratio = milliseconds[WITH] / milliseconds[WITHOUT]
    return {
        "clients": clients,
        "list": label,
        "p95_ms": {name: round(value, 2) for name, value in milliseconds.items()},
        "ratio": round(ratio, 3),
        "is_within_bounds": (label != ALL or ratio <= 0.2) and milliseconds[STOPPED] <= milliseconds[WITHOUT] + 10,
    }


def render_markdown(result: dict[str, Any]) -> str:
    lines = [
        f"# Lists with and without the cache, {result['date'][:10]}, {result['commit']}\n",
        f"Empty endpoint: {result['empty_endpoint_per_second']} requests a second. p95 in ms, medians of the rounds.\n",
        "| clients | list | with | without | ratio | Redis stopped | within bounds |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['clients']} | {row['list']} | {row['p95_ms'][WITH]} | {row['p95_ms'][WITHOUT]} | {row['ratio']}"
        f" | {row['p95_ms'][STOPPED]} | {'yes' if row['is_within_bounds'] else 'NO'} |"
        for row in result["rows"]
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typer.run(main)
