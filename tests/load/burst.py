"""A burst: first the rate that the shop sustains, from a closed loop of well-behaved clients, then many times that rate
from an open loop; afterwards everything has to come to rest, and nothing may be lost.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import httpx2

from bench.ceilings import run_load
from bench.rounds import SKUS, prepare_shop
from bench.shop_process import Target, start_own_shop
from caravan.settings import Settings
from cli.api_client import ApiClient, read_operator_secret
from tests.faults.invariants import at_rest, backends_of, violations

SETTINGS = {"SHIPPING_PICKUP_SECONDS": "1.0", "SHIPPING_DELIVERY_SECONDS": "0.5", "CARAVAN_LOG_LEVEL": "warning"}
REST_SECONDS = 900.0
TAKEN, SHED = "202", "429"


@dataclass(frozen=True, slots=True)
class BurstPlan:
    """`connections`: that the clients of the burst have at most; what comes while all are in use is not sent."""

    sustained_seconds: float = 20.0
    sustained_clients: int = 8
    burst_seconds: float = 60.0
    factor: float = 10.0
    connections: int = 1000
    apart: bool = True


@dataclass(slots=True)
class BurstResult:
    """Rates in orders a second; all else in seconds. `due`: the orders of the open loop; `statuses`: how they were
    answered.
    """

    sustained_rate: float = 0.0
    sustained_rest_seconds: float = 0.0
    offered_rate: float = 0.0
    sent_rate: float = 0.0
    due: int = 0
    no_connection_free: int = 0
    sent_again: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)
    accepted_rate: float = 0.0
    accepted_seconds: dict[str, float] = field(default_factory=dict)
    refused_seconds: dict[str, float] = field(default_factory=dict)
    drain_seconds: float = 0.0
    client_cpu_seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


async def run_burst(plan: BurstPlan, settings: Mapping[str, str] | None = None) -> BurstResult:
    """`settings`: of the shop, besides those of every burst."""
    result = BurstResult()
    async with start_own_shop({}, apart=plan.apart, settings={**SETTINGS, **(settings or {})}) as target:
        assert target.data is not None
        async with httpx2.AsyncClient(base_url=target.url, timeout=60) as http:
            api = ApiClient(http, read_operator_secret(Settings(data=target.data)), print)
            task = await _build_task(api, target)
            accepted = await _measure_sustained(plan, target, task, result)
            accepted |= await _measure_burst(plan, target, task, result)
        result.violations += await violations(backends_of(target.data), accepted)
    return result


async def _build_task(api: ApiClient, target: Target) -> dict[str, Any]:
    emails = await prepare_shop(api)
    tokens = [await api.get_token(email) for email in emails]
    host, port = target.address
    seed = random.getrandbits(64)
    return {"kind": "orders", "host": host, "port": port, "seed": seed, "tokens": tokens, "skus": SKUS}


async def _measure_sustained(plan: BurstPlan, target: Target, task: dict[str, Any], result: BurstResult) -> set[str]:
    """The orders that were accepted."""
    closed = {"clients": plan.sustained_clients, "seconds": plan.sustained_seconds, "warm_up": 3.0}
    loaded = await run_load({**task, **closed})
    result.sustained_rate = len(loaded["accepted"]) / plan.sustained_seconds
    result.sustained_rest_seconds = await _wait_for_rest(target, result)
    result.violations += [f"a well-behaved client was answered {text}" for text in loaded["failures"]]
    print(
        f"{plan.sustained_clients} clients that wait: {result.sustained_rate:.1f} orders a second are accepted; all at "
        f"rest {result.sustained_rest_seconds:.1f} s later",
        flush=True,
    )
    return {order_id for order_id, *_ in loaded["accepted"] + loaded["warmed"]}


async def _measure_burst(plan: BurstPlan, target: Target, task: dict[str, Any], result: BurstResult) -> set[str]:
    """The orders that were accepted."""
    result.offered_rate = result.sustained_rate * plan.factor
    opened = {"clients": plan.connections, "seconds": plan.burst_seconds, "rate": result.offered_rate}
    print(f"{result.offered_rate:.0f} orders a second are offered for {plan.burst_seconds:g} s ...", flush=True)
    loaded = await run_load({**task, **opened, "seed": random.getrandbits(64)}, "tests.load.open_loop")
    result.due, result.no_connection_free = loaded["due"], loaded["no_connection_free"]
    result.sent_again = loaded["sent_again"]
    result.sent_rate = (result.due - result.no_connection_free) / plan.burst_seconds
    result.statuses, result.problems = loaded["statuses"], loaded["problems"]
    result.accepted_rate = len(loaded["accepted"]) / plan.burst_seconds
    result.accepted_seconds = summarize_seconds([seconds for _, seconds in loaded["accepted"]])
    result.refused_seconds = summarize_seconds(loaded["refused_seconds"])
    result.client_cpu_seconds = loaded["cpu_seconds"]
    print(f"answered: {result.statuses}", flush=True)
    result.violations += find_unsound_answers(result, loaded["without_retry_after"])
    result.drain_seconds = await _wait_for_rest(target, result)
    return {order_id for order_id, _ in loaded["accepted"]}


def find_unsound_answers(result: BurstResult, without_retry_after: int) -> list[str]:
    """What a shop under too much load may not answer."""
    found = [
        f"{count} answers were {status}" for status, count in result.statuses.items() if status not in (TAKEN, SHED)
    ]
    if without_retry_after:
        found.append(f"{without_retry_after} of the answers {SHED} did not say when to come again")
    if not result.statuses.get(TAKEN):
        found.append("no order of the burst was accepted")
    if not result.statuses.get(SHED):
        found.append("nothing was shed")
    return found


async def _wait_for_rest(target: Target, result: BurstResult) -> float:
    """Seconds until nothing is on its way any more."""
    assert target.data is not None
    began = time.monotonic()
    while remaining := await at_rest(backends_of(target.data)):
        if time.monotonic() - began > REST_SECONDS:
            result.violations.append(f"no rest after {REST_SECONDS:.0f} s: {remaining}")
            break
        await asyncio.sleep(0.5)
    return time.monotonic() - began


def summarize_seconds(seconds: list[float]) -> dict[str, float]:
    if len(seconds) < 2:
        return {}
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": cuts[49], "p95": cuts[94], "max": max(seconds)}


def describe_result(plan: BurstPlan, result: BurstResult) -> dict[str, Any]:
    return {"plan": asdict(plan), **asdict(result)}
