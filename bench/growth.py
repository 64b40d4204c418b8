"""`python -m bench.growth`: what an order, a list and a search cost while orders and products become many; writes
bench/results/<date>-<commit>-growth.json, .md and .svg, anew after each step.

A shop of one process without the shared cache grows in ten steps. Each fills the catalogue up, places its share of the
orders in a round of `rounds.py` (with its drain and its comparison of all records), and reads lists and searches.
`growth_report.py` judges and draws.
"""

import asyncio
import json
import statistics
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import asyncpg
import httpx2
import typer

from bench.__main__ import RESULTS, describe_machine, read_commit
from bench.cache import measure_p95
from bench.growth_report import draw_growth, find_excesses, render_markdown
from bench.rounds import RoundPlan, measure_round, prepare_shop
from bench.shop_process import Target, start_own_shop
from caravan import embedded, settings
from cli.api_client import ApiClient, read_operator_secret

STEPS = 10
WARM_UP_SECONDS = 5.0
PRODUCT_ROWS = 5000
SEARCHES = {
    "a word of all products": "search=everywhere",
    "of half": "search=halfway",
    "of a tenth": "search=tenth",
    "of ten": "search=rarely",
    "of none": "search=nowhere",
    "two words of half, none of both": "search=halfway+otherwise",
    "five words": "search=steel+blue+mug+everywhere+halfway",
    "a beginning": "search=everyw",
    "a word of half in a category": "search=halfway&category=grown4",
    "a word of a tenth, newest first": "search=tenth&sort=newest",
}
"""The words that `_ADD_PRODUCTS` writes."""
ORDER_LISTS = {"20 newest orders": "/v1/orders", "20 delivered orders": "/v1/orders?status=delivered"}
LIST, NEXT_PAGE = "20 newest products", "the page after that"
_ADD_PRODUCTS = """
    INSERT INTO product (sku, name, description, category, price, currency, attributes, active, version, created_at,
        updated_at)
    SELECT format('GROWN-%s', n),
        (ARRAY['Steel', 'Oak', 'Linen', 'Glass'])[1 + n % 4] || ' ' || (ARRAY['blue', 'red', 'white'])[1 + n % 3]
            || ' ' || (ARRAY['mug', 'lamp', 'tray', 'bowl', 'rack'])[1 + n % 5],
        concat_ws(' ', 'everywhere', CASE WHEN n % 2 = 0 THEN 'halfway' ELSE 'otherwise' END,
            CASE WHEN n % 10 = 3 THEN 'tenth' END, CASE WHEN n % ($3 / 10) = 0 THEN 'rarely' END,
            (SELECT string_agg(left(translate(md5(floor(power(4000, random()))::text), '0123456789', 'ghijklmnop'), 7),
                ' ') FROM generate_series(1, 12) WHERE n = n)),
        'grown' || n % 20, 100 + n % 90000, 'GBP', jsonb_build_object('size', n % 7), true, 1,
        now() + n * interval '1 millisecond', now()
    FROM generate_series($1::int, $2::int) AS n
"""
_MEASURE_TABLES = """
    SELECT relname, pg_total_relation_size(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND pg_total_relation_size(oid) > 65536
"""


def main(
    orders: Annotated[int, typer.Option(min=100, help="Orders to place in all.")] = 200_000,
    products: Annotated[int, typer.Option(min=1000, help="Products at the end.")] = 300_000,
    clients: Annotated[int, typer.Option(min=1, help="Clients that place orders.")] = 8,
    read_seconds: Annotated[float, typer.Option(min=0.2, help="Length of the reading of each list.")] = 0.5,
    results: Annotated[Path, typer.Option(help="Folder for the result files.")] = RESULTS,
) -> None:
    """Measure growth. Exit status 1 when an order of the last tenth costs more than 1.05 of one of the first, a search
    takes longer than two lists, or the books of a round are wrong.
    """
    started = datetime.now(UTC).isoformat(timespec="seconds")
    path = results / f"{started[:10]}-{read_commit()}-growth"
    results.mkdir(parents=True, exist_ok=True)
    result = asyncio.run(_Growth(orders, products, clients, read_seconds, path, started).measure())
    print(render_markdown(result))
    print(f"written to {path}.json, .md and .svg")
    if find_excesses(result["steps"]):
        raise typer.Exit(1)


class _Growth:
    def __init__(self, orders: int, products: int, clients: int, read_seconds: float, path: Path, started: str) -> None:
        self._orders, self._products, self._clients = orders, products, clients
        self._read_seconds, self._path = read_seconds, path
        self._result: dict[str, Any] = {"date": started, "commit": read_commit(), "steps": []}

    async def measure(self) -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            target = await stack.enter_async_context(start_own_shop({}, settings={"CARAVAN_CACHE": "false"}))
            http = await stack.enter_async_context(httpx2.AsyncClient(base_url=target.url, timeout=120))
            api = ApiClient(http, read_operator_secret(settings.Settings(data=target.data or Path())), print)
            self._result |= await describe_machine(target)
            emails = await prepare_shop(api)
            warm_up = await measure_round(api, target, emails, self._plan(WARM_UP_SECONDS))
            rate = warm_up["accepted_per_second"]
            placed = warm_up["accepted"]
            for step in range(1, STEPS + 1):
                await self._add_products(target, step)
                seconds = max(1.0, (self._orders * step / STEPS - placed) / max(1.0, rate))
                self._announce(step, f"{seconds:.0f} s of orders")
                measured = await measure_round(api, target, emails, self._plan(seconds))
                self._announce(step, "lists and searches")
                rate, placed = measured["accepted_per_second"], placed + measured["accepted"]
                self._result["steps"].append(
                    {
                        "orders": placed,
                        "products": self._products * step // STEPS,
                        "round": measured,
                        "table_bytes": await _measure_tables(target),
                        "p95_ms": await self._measure_reads(api, target),
                    }
                )
                self._write()
        return self._result

    def _plan(self, seconds: float) -> RoundPlan:
        return RoundPlan(self._clients, seconds, 0.0, False, 0.5)

    async def _add_products(self, target: Target, step: int) -> None:
        first, last = (self._products * number // STEPS for number in (step - 1, step))
        connection = await asyncpg.connect(_get_database_url(target, "caravan_catalog"))
        try:
            for low in range(first, last, PRODUCT_ROWS):
                self._announce(step, f"{low} products")
                await connection.execute(_ADD_PRODUCTS, low + 1, min(last, low + PRODUCT_ROWS), self._products)
            await connection.execute("ANALYZE product")
        finally:
            await connection.close()

    async def _measure_reads(self, api: ApiClient, target: Target) -> dict[str, dict[str, float]]:
        """Each search in turns with a list, so that both meet the same moments."""
        staff = await api.get_token("")

        async def measure(path: str, token: str | None = None) -> float:
            return await measure_p95(target, [path], 1, self._read_seconds, token)

        lists: list[float] = []
        searches: dict[str, float] = {}
        ratios: dict[str, float] = {}
        for name, query in (SEARCHES | {NEXT_PAGE: await _find_next_page(api)}).items():
            rounds = [(await measure("/v1/products"), await measure(f"/v1/products?{query}")) for _ in range(3)]
            lists += [of_list for of_list, _ in rounds]
            searches[name] = statistics.median(of_search for _, of_search in rounds)
            ratios[name] = statistics.median(of_search / of_list for of_list, of_search in rounds)
        orders = {name: await measure(path, staff) for name, path in ORDER_LISTS.items()}
        return {"lists": {LIST: statistics.median(lists)} | orders, "searches": searches, "ratios": ratios}

    def _announce(self, step: int, what: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} step {step} of {STEPS}: {what}", flush=True)

    def _write(self) -> None:
        step = self._result["steps"][-1]
        cost = step["round"]["cost_per_order"]
        print(
            f"  {step['orders']} orders, {step['products']} products: {step['round']['paid_per_second']:.0f} paid a"
            f" second, {cost['app_cpu_ms']:.2f} + {cost['postgres_cpu_ms']:.2f} ms CPU, {cost['sql_statements']:.1f}"
            f" statements an order; a search costs up to {max(step['p95_ms']['ratios'].values()):.2f} lists",
            *step["round"]["problems"],
            sep="\n  ",
            flush=True,
        )
        self._path.with_name(f"{self._path.name}.json").write_text(json.dumps(self._result, indent=1) + "\n")
        self._path.with_name(f"{self._path.name}.md").write_text(render_markdown(self._result))
        draw_growth(self._result["steps"], self._path.with_name(f"{self._path.name}.svg"))


async def _find_next_page(api: ApiClient) -> str:
    page = await api.fetch_json("/v1/products", search="tenth")
    return f"search=tenth&cursor={page['next_cursor']}"


def _get_database_url(target: Target, name: str) -> str:
    servers = embedded.find_running(target.data) if target.data else None
    assert servers is not None
    return urlsplit(servers.database_url)._replace(path=f"/{name}").geturl()


async def _measure_tables(target: Target) -> dict[str, int]:
    """With their indexes, of every database; the small ones are left out."""
    connection = await asyncpg.connect(_get_database_url(target, "postgres"))
    try:
        names = [
            row[0] for row in await connection.fetch("SELECT datname FROM pg_database WHERE datname ~ '^caravan_'")
        ]
    finally:
        await connection.close()
    sizes: dict[str, int] = {}
    for name in names:
        connection = await asyncpg.connect(_get_database_url(target, name))
        try:
            rows = await connection.fetch(_MEASURE_TABLES)
            sizes |= {f"{name.removeprefix('caravan_')}.{row[0]}": row[1] for row in rows}
        finally:
            await connection.close()
    return sizes


if __name__ == "__main__":
    typer.run(main)
