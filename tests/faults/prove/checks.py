"""What must hold when everything is healed: the invariants I1 to I12, each with what speaks against it."""

import asyncio
import signal
import statistics
import time
from dataclasses import dataclass
from uuid import UUID

from caravan.runtime import Backends
from services.registry import load_services
from tests.faults.invariants import TERMINAL, at_rest, rows, violations
from tests.faults.prove.customers import Intents
from tests.faults.prove.shop import ProvenShop
from tests.faults.prove.strikes import run_command
from tests.support.shop import wait_until

REST_SECONDS = 120.0
MOST_SECONDS = 600.0
"""So long is waited at most, so that a proof that is late says by how much."""
REBUILDS = 4
"""So many read models are built at once."""
INVARIANTS = {
    "I1": "every accepted order is there once, and each retry with its key got the same one",
    "I2": "every order has ended, no saga is open",
    "I3": "money: the provider's ledger, our books and the ends of the orders say the same",
    "I4": "stock adds up, and was never negative",
    "I5": "no order that has ended holds stock",
    "I6": "one mail for each order and kind",
    "I7": "every message reached each of its readers, nothing waits, only planted poison died",
    "I8": "versions are without holes",
    "I9": "read models built anew, twice, are equal to the live ones",
    "I10": "nothing is missing after a restart of every process and server",
    "I11": "orders can be followed by their trace through all services, no consumer span is an orphan",
    "I12": "an accepted cancellation is done or refused",
}
WORDS = {
    "I1": ("is not stored", "was answered with", "orders nobody"),
    "I2": ("rests as", "no rest", "open saga"),
    "I3": ("charged", "provider", "invoice", "paid"),
    "I4": ("stock of", "is delivered or its stock", "ledger of stock"),
    "I5": ("reserved with",),
    "I6": ("notifications",),
    "I7": ("dead letter", "two messages", "never handled"),
    "I8": ("versions of",),
    "I9": ("read model",),
    "I10": ("after the restart",),
    "I11": ("trace",),
    "I12": ("cancellation",),
}


@dataclass(frozen=True, slots=True)
class Recovery:
    """Seconds from the end of the last fault: until everything was at rest, and until each order that was open then
    had ended.
    """

    rest_seconds: float
    open_orders: int
    p50_seconds: float
    max_seconds: float


async def wait_for_rest(shop: ProvenShop, healed_at: float, open_orders: set[UUID]) -> tuple[Recovery, str]:
    """How long that took, and what was still under way when nobody waited any longer. `healed_at`: Unix time of the
    end of the last fault; `open_orders`: those that had not ended then.
    """
    ended: dict[UUID, float] = {}
    remaining = ""
    while time.time() - healed_at < MOST_SECONDS:
        still_open = await list_open_orders(shop.backends)
        now = time.time() - healed_at
        ended |= dict.fromkeys(open_orders - still_open - ended.keys(), now)
        if not still_open and not (remaining := await at_rest(shop.backends, shop.wire)):
            break
        await asyncio.sleep(0.5)
    seconds = sorted(ended.values()) or [0.0]
    recovery = Recovery(time.time() - healed_at, len(open_orders), statistics.median(seconds), seconds[-1])
    return recovery, remaining


async def list_open_orders(backends: Backends) -> set[UUID]:
    query = "SELECT id FROM order_summary WHERE status <> ALL($1)"
    return {row["id"] for row in await rows(backends, "orders_read", query, TERMINAL)}


async def find_violations(shop: ProvenShop, intents: Intents) -> list[str]:
    """I1 to I9 and I12."""
    accepted = set(intents.accepted.values())
    found = await violations(shop.backends, accepted, shop.wire)
    for check in (_check_unknown, _check_cancellations):
        found += await check(shop.backends, intents)
    return found + await _check_ledger_of_stock(shop.backends)


async def _check_unknown(backends: Backends, intents: Intents) -> list[str]:
    stored = {str(row["id"]) for row in await rows(backends, "orders_read", "SELECT id FROM order_summary")}
    extra = stored - set(intents.accepted.values())
    found = list(intents.contradictions)
    if len(extra) > len(intents.unknown):
        found.append(f"{len(extra)} orders nobody knows of, only {len(intents.unknown)} attempts ended without answer")
    return found


async def _check_cancellations(backends: Backends, intents: Intents) -> list[str]:
    """I12: who was told 202 was cancelled, or told later that it was too late."""
    summaries = await rows(backends, "orders_read", "SELECT id, status, cancellation FROM order_summary")
    return [
        f"the accepted cancellation of {row['id']} left it {row['status']}, {row['cancellation']}"
        for row in summaries
        if str(row["id"]) in intents.cancelled
        and row["status"] not in ("cancelled", "refunded")
        and row["cancellation"] != "refused"
    ]


async def _check_ledger_of_stock(backends: Backends) -> list[str]:
    query = (
        "SELECT sku FROM movement GROUP BY sku"
        " HAVING count(*) <> max(version) OR min(on_hand - reserved) < 0 OR min(reserved) < 0"
    )
    return [f"the ledger of stock of {row['sku']} has holes" for row in await rows(backends, "inventory", query)]


async def check_read_models(shop: ProvenShop) -> list[str]:
    """I9: each read model is built twice from its events; the command compares it with the live one."""

    slots = asyncio.Semaphore(REBUILDS)

    async def build(name: str) -> str:
        async with slots:
            code, text = await run_command(shop, "projections", "rebuild", name)
        return f"read model {name}: {text.strip()[-300:]}" if code else ""

    names = [name for service in load_services() for name in service.projections]
    return [text for text in await asyncio.gather(*(build(name) for name in [*names, *names])) if text]


async def restart_everything(shop: ProvenShop) -> None:
    """Every process, and every server."""
    for service in list(shop.running):
        await shop.stop(service)
    for name in ("postgres", "redis"):
        server = shop.find_server(name)
        if server is not None:
            server.send_signal(signal.SIGTERM if name == "redis" else signal.SIGQUIT)
            await shop.wait_for_server(name, server.pid)
    if shop.brokers is not None:
        await shop.brokers.restart()
    await shop.wait_until_served()
    await shop.start_all()

    async def is_there() -> bool:
        return await at_rest(shop.backends, shop.wire) == ""

    await wait_until(is_there, seconds=MOST_SECONDS, every=1.0)


def sort_by_invariant(found: list[str]) -> dict[str, list[str]]:
    """What was found, under the invariant that it speaks against."""
    sorted_texts: dict[str, list[str]] = {name: [] for name in INVARIANTS}
    for text in found:
        names = [name for name, words in WORDS.items() if any(word in text for word in words)]
        sorted_texts["I10" if "I10" in names else names[0] if names else "I2"].append(text)
    return sorted_texts
