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

from bench.ceilings import empty_endpoint, inserts, load, spin
from bench.shop_process import Cost, Target, cost, memory
from services.cli.shop import Shop

CUSTOMERS = 64
SKUS = [f"BENCH-{number:03d}" for number in range(200)]
HOT = "BENCH-HOT"
PRICES = {**{sku: 500 + 7 * number for number, sku in enumerate(SKUS)}, HOT: 999}
STOCK = 100_000_000
SAMPLE = 5_000
LEDGERS = 200
INVOICES = 100
REST_SECONDS = 60.0
IDLE_SECONDS = 120.0
"""So many orders are compared with the payment provider's books, and so many pages of stock movements are read, per round."""
OPEN = ("created", "reserved")
ENDED = frozenset({"delivered"})
DRAIN_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    clients: int
    seconds: float
    warm_up: float
    hot: bool
    ceiling_seconds: float


async def prepare(shop: Shop) -> list[str]:
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
    await shop.call("PUT", "/v1/products", body={"products": products})
    movements = [{"sku": sku, "kind": "receive", "quantity": STOCK, "reason": "bench"} for sku in PRICES]
    await shop.call("POST", "/v1/stock/movements", body={"movements": movements}, key="bench stock")
    emails = [f"bench-{number}@bench.example" for number in range(CUSTOMERS)]
    for email in emails:
        await shop.call("POST", "/v1/users/invitations", body={"email": email, "name": "Bench Customer", "role": "customer"})
    return emails


async def measure(shop: Shop, target: Target, emails: Sequence[str], plan: Plan) -> dict[str, Any]:
    """One round. Raises nothing for a wrong shop: `problems` lists what is wrong, and such a round has no number."""
    spins = [spin()]
    ceilings = {
        "empty_endpoint_per_second": await empty_endpoint(target, plan.clients, plan.ceiling_seconds),
        "insert_commit_per_second": await inserts(target, plan.clients, plan.ceiling_seconds),
    }
    stock = await _stock(shop)
    before, started = await cost(target), time.time()
    task = await _task(shop, target, emails, plan)
    memories: list[dict[str, float]] = []
    watching = asyncio.create_task(_watch_memory(target, memories))
    loaded = await load(task)
    backlog = await _drain(shop, OPEN, every=0.05)
    undelivered = await _drain(shop, (*OPEN, "paid", "shipped"), every=0.5)
    watching.cancel()
    after = await cost(target)
    invoice_cpu = await _invoices(shop, target, [order_id for order_id, *_ in loaded["accepted"][:INVOICES]])
    spins.append(spin())
    end = loaded["began"] + plan.seconds
    accepted, warmed = loaded["accepted"], loaded["warmed"]
    paid = await _paid_after(shop, accepted)
    problems = [*map(str, loaded["failures"].items()), *await check(shop, loaded, stock, started)]
    if backlog is None or undelivered is None:
        problems.append(f"orders were still open {DRAIN_SECONDS:.0f} s after the load")
    return {
        "clients": plan.clients,
        "seconds": plan.seconds,
        "hot": plan.hot,
        "spin_seconds": spins,
        "ceilings": ceilings,
        "accepted": len(accepted),
        "accepted_per_second": len(accepted) / plan.seconds,
        "answer_seconds": percentiles([seconds for _, _, seconds, _ in accepted]),
        "paid_per_second": sum(moment <= end for moment, _ in paid) / max(1, len(paid)) * len(accepted) / plan.seconds,
        "paid_seconds": percentiles([seconds for _, seconds in paid]),
        "read_as_paid_seconds": percentiles(loaded["watched"]),
        "backlog_share_at_end": sum(moment > end for moment, _ in paid) / max(1, len(paid)),
        "backlog_seconds": None if backlog is None else max((moment - end for moment, _ in paid if moment > end), default=0.0),
        "memory_mib": _peak(memories),
        "outbox_seconds": _outbox(before, after),
        "cost_per_order": _per_order(before, after, len(accepted) + len(warmed)),
        "invoice_cpu_ms": invoice_cpu,
        "load_generator_cpu_ms_per_request": loaded["cpu_seconds"] / max(1, loaded["requests"]) * 1000,
        "problems": problems,
    }


async def _task(shop: Shop, target: Target, emails: Sequence[str], plan: Plan) -> dict[str, Any]:
    host, port = target.address
    tokens = [await shop.token_of(email) for email in emails]
    return {
        "kind": "orders",
        "host": host,
        "port": port,
        "clients": plan.clients,
        "seconds": plan.seconds,
        "warm_up": plan.warm_up,
        "seed": random.getrandbits(64),
        "tokens": tokens,
        "staff": await shop.token_of(""),
        "skus": [HOT] if plan.hot else SKUS,
    }


async def _invoices(shop: Shop, target: Target, orders: Sequence[str]) -> float | None:
    """CPU ms of the app for an invoice that is asked for the first time. The orders' own cost holds no drawing: nothing is drawn ahead."""
    before = (await cost(target)).app_cpu
    for order_id in orders:
        await shop.call("GET", f"/v1/orders/{order_id}/invoice")
    after = (await cost(target)).app_cpu
    return None if before is None or after is None or not orders else (after - before) * 1000 / len(orders)


async def at_rest(target: Target, rest: float = REST_SECONDS, seconds: float = IDLE_SECONDS) -> dict[str, Any]:
    """Percent of a core that the parts take, and SQL statements a second, when nobody asks anything. CPU time, so that other work on the machine hardly matters."""
    await asyncio.sleep(rest)
    before, started = await cost(target), time.monotonic()
    await asyncio.sleep(seconds)
    after, passed = await cost(target), time.monotonic() - started

    def of(name: str, scale: float) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None else (last - first) * scale / passed

    parts = {f"{name}_percent": of(f"{name}_cpu", 100) for name in ("app", "postgres", "redis")}
    services = {name: (spent - before.services[name]) * 100 / passed for name, spent in after.services.items()}
    return {**parts, "sql_statements_per_second": of("statements", 1), "services_percent": services}


async def _watch_memory(target: Target, seen: list[dict[str, float]]) -> None:
    while True:
        now = await asyncio.to_thread(memory, target)
        if now:
            seen.append(now)
        await asyncio.sleep(5)


def _peak(memories: list[dict[str, float]]) -> dict[str, float] | None:
    """The sample with the largest sum."""
    if not memories:
        return None
    peak = max(memories, key=lambda each: sum(each.values()))
    return {**peak, "all": round(sum(peak.values()), 1)}


def _per_order(before: Cost, after: Cost, orders: int) -> dict[str, float | None]:
    def of(name: str, scale: float) -> float | None:
        first, last = getattr(before, name), getattr(after, name)
        return None if first is None or last is None or not orders else (last - first) * scale / orders

    return {
        "app_cpu_ms": of("app_cpu", 1000),
        "postgres_cpu_ms": of("postgres_cpu", 1000),
        "redis_cpu_ms": of("redis_cpu", 1000),
        "sql_statements": of("statements", 1),
        "commits": of("commits", 1),
        "messages": of("messages", 1),
        "io_calls": of("io_calls", 1),
    }


def _outbox(before: Cost, after: Cost) -> dict[str, dict[str, float]]:
    """By service, and of all."""
    grown = {service: growth(before.outbox.get(service, {}), bounds) for service, bounds in after.outbox.items()}
    every = [bounds for bounds in grown.values() if bounds]
    grown["all"] = {bound: sum(bounds[bound] for bounds in every) for bound in (every[0] if every else {})}
    return {service: at_most(bounds) for service, bounds in grown.items()}


def growth(before: Mapping[float, float], after: Mapping[float, float]) -> dict[float, float]:
    """Of a histogram's cumulative buckets by their upper bound."""
    return {bound: count - before.get(bound, 0.0) for bound, count in sorted(after.items())}


def at_most(bounds: Mapping[float, float]) -> dict[str, float]:
    """Percentiles of a histogram, each as the upper bound of its bucket."""
    total = bounds.get(float("inf"), 0.0)
    found = {"n": total}
    for percent in (50, 95, 99) if total else ():
        found[f"p{percent}"] = next(bound for bound, count in bounds.items() if count >= total * percent / 100)
    return found


async def _drain(shop: Shop, statuses: Sequence[str], *, every: float) -> float | None:
    """Seconds until no order is in these statuses; None when that takes too long."""
    started = time.monotonic()
    while time.monotonic() - started < DRAIN_SECONDS:
        for status in statuses:
            if (await shop.get("/v1/orders", status=status, limit=1))["items"]:
                break
        else:
            return time.monotonic() - started
        await asyncio.sleep(every)
    return None


async def _paid_after(shop: Shop, accepted: list[list[Any]]) -> list[tuple[float, float]]:
    """Of a sample: when it was paid by its own history, and the seconds from the client's 202 to that."""
    found: list[tuple[float, float]] = []
    sample = iter(random.sample(accepted, min(SAMPLE, len(accepted))))

    async def reader() -> None:
        for order_id, answered, _, _ in sample:
            history = await shop.get(f"/v1/orders/{order_id}/history")
            moment = next((entry["time"] for entry in history["items"] if entry["type"] == "PaymentCompleted"), None)
            if moment:
                paid = datetime.fromisoformat(moment).timestamp()
                found.append((paid, max(0.0, paid - answered)))

    await asyncio.gather(*(reader() for _ in range(8)))
    return found


async def check(shop: Shop, loaded: dict[str, Any], stock: dict[str, int], started: float) -> list[str]:
    """Accepted = stored = paid, and stock = what was there less what was ordered = its own ledger."""
    placed = {order_id: body for order_id, _, _, body in loaded["accepted"] + loaded["warmed"]}
    stored = await _stored(shop, started)
    problems = []
    if len(placed) != len(loaded["accepted"]) + len(loaded["warmed"]):
        problems.append("an order id was given out twice")
    if missing := placed.keys() - stored.keys():
        problems.append(f"{len(missing)} accepted orders are not stored, such as {min(missing)}")
    if extra := stored.keys() - placed.keys():
        problems.append(f"{len(extra)} orders are stored that were never accepted, such as {min(extra)}")
    if wrong := Counter(status for status in stored.values() if status not in ENDED):
        problems.append(f"accepted orders that were not paid and delivered: {dict(wrong)}")
    sold: Counter[str] = Counter()
    for body in placed.values():
        sold.update(loaded["bodies"][body])
    for sku, on_hand in (await _stock(shop)).items():
        if on_hand != stock[sku] - sold[sku]:
            problems.append(f"stock of {sku} is {on_hand}, but {stock[sku]} less {sold[sku]} sold should be there")
    for order_id in random.sample(sorted(placed), min(LEDGERS, len(placed))):
        problems += await _check_money(shop, order_id)
    return problems


async def _check_money(shop: Shop, order_id: str) -> list[str]:
    total = (await shop.get(f"/v1/orders/{order_id}"))["total"]["amount"]
    ours = [capture["amount"]["amount"] for capture in (await shop.get(f"/v1/payments/{order_id}"))["captures"]]
    ledger = (await shop.get(f"/v1/payments/{order_id}/provider-ledger"))["items"]
    theirs = [entry["amount"]["amount"] for entry in ledger if entry["outcome"] == "captured"]
    return [] if ours == theirs == [total] else [f"order {order_id} costs {total}, captured {ours}, at the provider {theirs}"]


async def _stored(shop: Shop, since: float) -> dict[str, str]:
    """Status by order id, of the orders placed since a moment, newest first until older ones come."""
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = await shop.get("/v1/orders", limit=100, **({"cursor": cursor} if cursor else {}))
        for item in page["items"]:
            if datetime.fromisoformat(item["placed_at"]).timestamp() < since:
                return found
            found[item["id"]] = item["status"]
        cursor = page["next_cursor"]
        if not cursor:
            return found


async def _stock(shop: Shop) -> dict[str, int]:
    """On hand by sku. A reservation must not outlive its order, so nothing may be reserved between rounds."""
    found = {}
    for sku in PRICES:
        level = await shop.get(f"/v1/stock/{sku}")
        found[sku] = level["on_hand"] if not level["reserved"] else -1
    return found


def percentiles(values: list[float]) -> dict[str, float | int]:
    """p99 stands only where enough samples carry it."""
    if len(values) < 20:
        return {"n": len(values)}
    cuts = statistics.quantiles(values, n=100)
    found: dict[str, float | int] = {"n": len(values), "p50": cuts[49], "p95": cuts[94], "max": max(values)}
    return found | ({"p99": cuts[98]} if len(values) >= 1000 else {})
