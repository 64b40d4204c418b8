"""One measured round: load, drain, and what the shop's own API says of the orders afterwards."""

import asyncio
import random
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from bench.ceilings import measure_empty_endpoint, measure_inserts, measure_spin, run_load
from bench.shop_process import Cost, Target, measure_cost, measure_memory
from cli.api_client import ApiClient

CUSTOMERS = 64
SKUS = [f"BENCH-{number:03d}" for number in range(200)]
HOT_SKU = "BENCH-HOT"
PRICES = {**{sku: 500 + 7 * number for number, sku in enumerate(SKUS)}, HOT_SKU: 999}
STOCK = 100_000_000
SAMPLE_SIZE = 5_000
LEDGERS = 200
INVOICES = 100
REST_SECONDS = 60.0
IDLE_SECONDS = 120.0
"""So many orders are compared with the payment provider's books, and so many pages of stock movements are read, per
round.
"""
OPEN_STATUSES = ("created", "reserved")
FINAL_STATUSES = frozenset({"delivered"})
DRAIN_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class RoundPlan:
    clients: int
    seconds: float
    warm_up: float
    hot: bool
    ceiling_seconds: float


async def prepare_shop(api: ApiClient) -> list[str]:
    """Products, stock and customers, through the API; the customers' addresses."""
    products = [
        {
            "sku": sku,
            "name": f"Bench {sku}",
            "description": "",
            "category": "bench",
            "price": {"amount": price, "currency": "GBP"},
            "attributes": {},
        }
        for sku, price in PRICES.items()
    ]
    await api.send_request("PUT", "/v1/products", body={"products": products})
    movements = [{"sku": sku, "kind": "receive", "quantity": STOCK, "reason": "bench"} for sku in PRICES]
    await api.send_request("POST", "/v1/stock/movements", body={"movements": movements}, key="bench stock")
    emails = [f"bench-{number}@bench.example" for number in range(CUSTOMERS)]
    for email in emails:
        await api.send_request(
            "POST", "/v1/users/invitations", body={"email": email, "name": "Bench Customer", "role": "customer"}
        )
    return emails


async def measure_round(api: ApiClient, target: Target, emails: Sequence[str], plan: RoundPlan) -> dict[str, Any]:
    """One round. Raises nothing for a wrong shop: `problems` lists what is wrong, and such a round has no number."""
    spins = [measure_spin()]
    ceilings = {
        "empty_endpoint_per_second": await measure_empty_endpoint(target, plan.clients, plan.ceiling_seconds),
        "insert_commit_per_second": await measure_inserts(target, plan.clients, plan.ceiling_seconds),
    }
    stock = await _read_stock(api)
    before, started = await measure_cost(target), time.time()
    task = await _build_task(api, target, emails, plan)
    memories: list[dict[str, float]] = []
    watching = asyncio.create_task(_watch_memory(target, memories))
    loaded = await run_load(task)
    backlog = await _wait_until_drained(api, OPEN_STATUSES, every=0.05)
    unfinished_count = await _wait_until_drained(api, (*OPEN_STATUSES, "paid", "shipped"), every=0.5)
    watching.cancel()
    after = await measure_cost(target)
    invoice_cpu = await _measure_invoices(api, target, [order_id for order_id, *_ in loaded["accepted"][:INVOICES]])
    spins.append(measure_spin())
    end = loaded["began"] + plan.seconds
    accepted, warm_up_orders = loaded["accepted"], loaded["warmed"]
    payments = await _sample_payments(api, accepted)
    problems = [*map(str, loaded["failures"].items()), *await check_books(api, loaded, stock, started)]
    if backlog is None or unfinished_count is None:
        problems.append(f"orders were still open {DRAIN_SECONDS:.0f} s after the load")
    return {
        "clients": plan.clients,
        "seconds": plan.seconds,
        "hot": plan.hot,
        "spin_seconds": spins,
        "ceilings": ceilings,
        "accepted": len(accepted),
        "accepted_per_second": len(accepted) / plan.seconds,
        "answer_seconds": compute_percentiles([seconds for _, _, seconds, _ in accepted]),
        "paid_per_second": sum(moment <= end for moment, _ in payments)
        / max(1, len(payments))
        * len(accepted)
        / plan.seconds,
        "paid_seconds": compute_percentiles([seconds for _, seconds in payments]),
        "read_as_paid_seconds": compute_percentiles(loaded["watched"]),
        "backlog_share_at_end": sum(moment > end for moment, _ in payments) / max(1, len(payments)),
        "backlog_seconds": None
        if backlog is None
        else max((moment - end for moment, _ in payments if moment > end), default=0.0),
        "memory_mib": _find_peak(memories),
        "outbox_seconds": _summarize_outbox(before, after),
        "cost_per_order": _compute_order_cost(before, after, len(accepted) + len(warm_up_orders)),
        "invoice_cpu_ms": invoice_cpu,
        "load_generator_cpu_ms_per_request": loaded["cpu_seconds"] / max(1, loaded["requests"]) * 1000,
        "problems": problems,
    }


async def _build_task(api: ApiClient, target: Target, emails: Sequence[str], plan: RoundPlan) -> dict[str, Any]:
    host, port = target.address
    tokens = [await api.get_token(email) for email in emails]
    return {
        "kind": "orders",
        "host": host,
        "port": port,
        "clients": plan.clients,
        "seconds": plan.seconds,
        "warm_up": plan.warm_up,
        "seed": random.getrandbits(64),
        "tokens": tokens,
        "staff": await api.get_token(""),
        "skus": [HOT_SKU] if plan.hot else SKUS,
    }


async def _measure_invoices(api: ApiClient, target: Target, orders: Sequence[str]) -> float | None:
    """CPU ms of the app for an invoice that is asked for the first time. The orders' own cost holds no drawing: nothing
    is drawn ahead.
    """
    before = (await measure_cost(target)).app_cpu
    for order_id in orders:
        await api.send_request("GET", f"/v1/orders/{order_id}/invoice")
    after = (await measure_cost(target)).app_cpu
    return None if before is None or after is None or not orders else (after - before) * 1000 / len(orders)


async def measure_idle(target: Target, rest: float = REST_SECONDS, seconds: float = IDLE_SECONDS) -> dict[str, Any]:
    """Percent of a core that the parts take, and SQL statements a second, when nobody asks anything. CPU time, so that
    other work on the machine hardly matters.
    """
    await asyncio.sleep(rest)
    before, started = await measure_cost(target), time.monotonic()
    await asyncio.sleep(seconds)
    after, passed = await measure_cost(target), time.monotonic() - started

    def compute_rate(name: str, scale: float) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None else (last - first) * scale / passed

    parts = {f"{name}_percent": compute_rate(f"{name}_cpu", 100) for name in ("app", "postgres", "redis")}
    services = {name: (spent - before.services[name]) * 100 / passed for name, spent in after.services.items()}
    return {**parts, "sql_statements_per_second": compute_rate("statements", 1), "services_percent": services}


async def _watch_memory(target: Target, samples: list[dict[str, float]]) -> None:
    while True:
        now = await asyncio.to_thread(measure_memory, target)
        if now:
            samples.append(now)
        await asyncio.sleep(5)


def _find_peak(memories: list[dict[str, float]]) -> dict[str, float] | None:
    """The sample with the largest sum."""
    if not memories:
        return None
    peak = max(memories, key=lambda each: sum(each.values()))
    return {**peak, "all": round(sum(peak.values()), 1)}


def _compute_order_cost(before: Cost, after: Cost, orders: int) -> dict[str, float | None]:
    def divide(name: str, scale: float) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None or not orders else (last - first) * scale / orders

    return {
        "app_cpu_ms": divide("app_cpu", 1000),
        "postgres_cpu_ms": divide("postgres_cpu", 1000),
        "redis_cpu_ms": divide("redis_cpu", 1000),
        "sql_statements": divide("statements", 1),
        "commits": divide("commits", 1),
        "messages": divide("messages", 1),
        "io_calls": divide("io_calls", 1),
    }


def _summarize_outbox(before: Cost, after: Cost) -> dict[str, dict[str, float]]:
    """By service, and of all."""
    buckets = {
        service: subtract_buckets(before.outbox.get(service, {}), bounds) for service, bounds in after.outbox.items()
    }
    totals = [bounds for bounds in buckets.values() if bounds]
    buckets["all"] = {bound: sum(bounds[bound] for bounds in totals) for bound in (totals[0] if totals else {})}
    return {service: estimate_percentiles(bounds) for service, bounds in buckets.items()}


def subtract_buckets(before: Mapping[float, float], after: Mapping[float, float]) -> dict[float, float]:
    """Of a histogram's cumulative buckets by their upper bound."""
    return {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}


def estimate_percentiles(bounds: Mapping[float, float]) -> dict[str, float]:
    """Percentiles of a histogram, each as the upper bound of its bucket."""
    total = bounds.get(float("inf"), 0.0)
    percentiles = {"n": total}
    for percent in (50, 95, 99) if total else ():
        percentiles[f"p{percent}"] = next(bound for bound, count in bounds.items() if count >= total * percent / 100)
    return percentiles


async def _wait_until_drained(api: ApiClient, statuses: Sequence[str], *, every: float) -> float | None:
    """Seconds until no order is in these statuses; None when that takes too long."""
    started = time.monotonic()
    while time.monotonic() - started < DRAIN_SECONDS:
        for status in statuses:
            if (await api.fetch_json("/v1/orders", status=status, limit=1))["items"]:
                break
        else:
            return time.monotonic() - started
        await asyncio.sleep(every)
    return None


async def _sample_payments(api: ApiClient, accepted: list[list[Any]]) -> list[tuple[float, float]]:
    """Of a sample: when it was paid by its own history, and the seconds from the client's 202 to that."""
    payments: list[tuple[float, float]] = []
    sample = iter(random.sample(accepted, min(SAMPLE_SIZE, len(accepted))))

    async def read_histories() -> None:
        for order_id, answered, _, _ in sample:
            history = await api.fetch_json(f"/v1/orders/{order_id}/history")
            moment = next((entry["time"] for entry in history["items"] if entry["type"] == "PaymentCompleted"), None)
            if moment:
                paid = datetime.fromisoformat(moment).timestamp()
                payments.append((paid, max(0.0, paid - answered)))

    await asyncio.gather(*(read_histories() for _ in range(8)))
    return payments


async def check_books(api: ApiClient, loaded: dict[str, Any], stock: dict[str, int], started: float) -> list[str]:
    """Accepted = stored = paid, and stock = what was there less what was ordered = its own ledger."""
    placed = {order_id: body for order_id, _, _, body in loaded["accepted"] + loaded["warmed"]}
    stored = await _list_stored(api, started)
    problems = []
    if len(placed) != len(loaded["accepted"]) + len(loaded["warmed"]):
        problems.append("an order id was given out twice")
    if missing := placed.keys() - stored.keys():
        problems.append(f"{len(missing)} accepted orders are not stored, such as {min(missing)}")
    if extra := stored.keys() - placed.keys():
        problems.append(f"{len(extra)} orders are stored that were never accepted, such as {min(extra)}")
    if wrong := Counter(status for status in stored.values() if status not in FINAL_STATUSES):
        problems.append(f"accepted orders that were not paid and delivered: {dict(wrong)}")
    sold: Counter[str] = Counter()
    for body in placed.values():
        sold.update(loaded["bodies"][body])
    for sku, on_hand in (await _read_stock(api)).items():
        if on_hand != stock[sku] - sold[sku]:
            problems.append(f"stock of {sku} is {on_hand}, but {stock[sku]} less {sold[sku]} sold should be there")
    for order_id in random.sample(sorted(placed), min(LEDGERS, len(placed))):
        problems += await _check_money(api, order_id)
    return problems


async def _check_money(api: ApiClient, order_id: str) -> list[str]:
    total = (await api.fetch_json(f"/v1/orders/{order_id}"))["total"]["amount"]
    ours = [capture["amount"]["amount"] for capture in (await api.fetch_json(f"/v1/payments/{order_id}"))["captures"]]
    ledger = (await api.fetch_json(f"/v1/payments/{order_id}/provider-ledger"))["items"]
    theirs = [entry["amount"]["amount"] for entry in ledger if entry["outcome"] == "captured"]
    return (
        []
        if ours == theirs == [total]
        else [f"order {order_id} costs {total}, captured {ours}, at the provider {theirs}"]
    )


async def _list_stored(api: ApiClient, since: float) -> dict[str, str]:
    """Status by order id, of the orders placed since a moment, newest first until older ones come."""
    statuses: dict[str, str] = {}
    cursor = ""
    while True:
        page = await api.fetch_json("/v1/orders", limit=100, **({"cursor": cursor} if cursor else {}))
        for item in page["items"]:
            if datetime.fromisoformat(item["placed_at"]).timestamp() < since:
                return statuses
            statuses[item["id"]] = item["status"]
        cursor = page["next_cursor"]
        if not cursor:
            return statuses


async def _read_stock(api: ApiClient) -> dict[str, int]:
    """On hand by sku. A reservation must not outlive its order, so nothing may be reserved between rounds."""
    levels = {}
    for sku in PRICES:
        level = await api.fetch_json(f"/v1/stock/{sku}")
        levels[sku] = level["on_hand"] if not level["reserved"] else -1
    return levels


def compute_percentiles(values: list[float]) -> dict[str, float | int]:
    """p99 stands only where enough samples carry it."""
    if len(values) < 20:
        return {"n": len(values)}
    cuts = statistics.quantiles(values, n=100)
    result: dict[str, float | int] = {"n": len(values), "p50": cuts[49], "p95": cuts[94], "max": max(values)}
    return result | ({"p99": cuts[98]} if len(values) >= 1000 else {})
