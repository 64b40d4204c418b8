"""A shop whose databases were dumped at two moments while orders flowed, and which is restored to them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from redis.asyncio import Redis

from caravan import embedded
from caravan.runtime import Backends
from tests.backups.dumps import Dumps, list_databases
from tests.faults.invariants import TERMINAL, rows
from tests.support.new_cluster import SECRET, place_cluster
from tests.support.program import Program, launch_caravan
from tests.support.shop import wait_until

SETTINGS = {
    "CARAVAN_SECRET": SECRET,
    "SHIPPING_PICKUP_SECONDS": "20",
    "SHIPPING_DELIVERY_SECONDS": "1",
    "PROCESSING_STEP_TIMEOUT_SECONDS": "5",
    "PAYMENTS_RETRY_SECONDS": "[0.5,1.0,2.0]",
    "RECONCILIATION_SETTLE_SECONDS": "3",
    "RECONCILIATION_RUN_SECONDS": "3600",
    "RECONCILIATION_STUCK_SECONDS": "30",
    "RECONCILIATION_REPAIRS_PER_RUN": "1000",
    "RECONCILIATION_REPAIR_AMOUNT_PER_RUN": "1000000000",
}
ORDERS = 4
EARLY, LATE = "early", "late"
DELIVERED, PAID_EARLY, BETWEEN, PAID_LATE, AFTER = "delivered", "paid early", "between", "paid late", "after"
"""Orders that were delivered before the early dump, paid and not yet delivered at it, delivered between the dumps, paid
and not yet delivered at the late dump, and placed after it.
"""
SECONDS = 240
COMPARE_SECONDS = 2.0
SAME_COMPARISONS = 3
"""So many full comparisons in a row find the same: nothing moves any more."""


@dataclass
class RestoredShop:
    data: Path
    backends: Backends
    dumps: Dumps
    sku: str = ""
    orders: dict[str, list[str]] = field(default_factory=dict)
    """By group, the ids of the accepted orders."""
    program: Program = field(init=False)
    held_by: str = ""
    """Why the last comparison looked at less than it could have."""

    async def start(self) -> None:
        process, url = await launch_caravan(["up"], SETTINGS, self.data, "up")
        self.program = Program(url, self.data, [process], secret=SECRET)

    async def trade(self) -> None:
        """Orders of every group, with the dumps in between."""
        await self.start()
        customer = await self.program.register_customer()
        self.sku = await self.program.create_product(stock=1000)
        moments = {DELIVERED: "", PAID_EARLY: EARLY, BETWEEN: "", PAID_LATE: LATE, AFTER: ""}
        for group, moment in moments.items():
            self.orders[group] = [await self._place(customer) for _ in range(ORDERS)]
            if moment:
                await self._wait_for(self.orders[group], ("paid",))
                await self.dumps.take(moment)
            await self._wait_for(self.orders[group], TERMINAL)
        await self.program.stop()

    async def _place(self, customer: dict[str, str]) -> str:
        answer = await self.program.place_order(customer, self.sku)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    async def _wait_for(self, orders: list[str], statuses: tuple[str, ...]) -> None:
        """Until each of these orders is in one of these states."""

        async def have_come() -> bool:
            found = await self.read_statuses()
            return all(found.get(order_id) in statuses for order_id in orders)

        await wait_until(have_come, seconds=SECONDS, every=0.2)

    async def read_statuses(self) -> dict[str, str]:
        found = await rows(self.backends, "orders_read", "SELECT id, status FROM order_summary")
        return {str(row["id"]): row["status"] for row in found}

    async def restore(self, older: Mapping[str, str]) -> None:
        """Every database to the late moment but those of `older`; Redis is empty; then the shop is started."""
        await self.dumps.restore({name: older.get(name, LATE) for name in list_databases()})
        async with Redis.from_url(self.backends.redis_url) as redis:
            await redis.flushall()
        await self.start()

    async def find_gaps(self) -> dict[str, set[str]]:
        """Subjects by class, once nothing moves any more."""
        last: list[dict[str, set[str]]] = []

        async def have_settled() -> bool:
            last.append(await self.compare_books())
            if self.held_by:
                last.clear()
                return False
            statuses = await self.read_statuses()
            moving = {order_id for order_id, status in statuses.items() if status not in (*TERMINAL, "shipped")}
            is_same = len(last) >= SAME_COMPARISONS and all(each == last[-1] for each in last[-SAME_COMPARISONS:])
            return is_same and not moving - last[-1].get("order_stuck", set())

        await wait_until(have_settled, seconds=SECONDS, every=COMPARE_SECONDS)
        return last[-1]

    async def compare_books(self) -> dict[str, set[str]]:
        """Subjects by class, of a full comparison now."""
        run = (await self.ask("POST", "/v1/reconciliation/runs", {"mode": "full"}))["id"]

        async def is_done() -> bool:
            done = await self.ask("GET", f"/v1/reconciliation/runs/{run}")
            assert done["state"] != "failed"
            self.held_by = done["held_by"]
            return bool(done["state"] == "done")

        await wait_until(is_done, seconds=SECONDS, every=0.3)
        found: dict[str, set[str]] = {}
        for case in await self.list_cases():
            found.setdefault(case["gap"], set()).add(case["subject"])
        return found

    async def list_cases(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for state in ("open", "awaiting_approval", "repairing"):
            page = await self.ask("GET", f"/v1/reconciliation/cases?state={state}&limit=100")
            assert page["next_cursor"] is None
            found += page["items"]
        return found

    async def repair(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = (await self.ask("POST", "/v1/reconciliation/repairs", {"dry_run": False}))[
            "items"
        ]
        return items

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = await self.program.authorize_operator()
        answer: httpx2.Response = await self.program.client.request(method, path, json=body, headers=headers)
        assert answer.status_code < 300, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def read_provider(self) -> dict[str, int]:
        """What the provider keeps of each order."""
        query = (
            "SELECT reference, sum(CASE outcome WHEN 'captured' THEN amount WHEN 'refunded' THEN -amount ELSE 0 END) "
            "AS kept, count(*) FILTER (WHERE outcome = 'captured') AS captures FROM provider_ledger GROUP BY 1"
        )
        found = await rows(self.backends, "payments", query)
        assert all(row["captures"] <= 1 for row in found), "a card was charged twice"
        return {row["reference"]: int(row["kept"]) for row in found}


@asynccontextmanager
async def open_restored_shop(data: Path) -> AsyncIterator[RestoredShop]:
    """It has traded and is stopped; its servers run."""
    data.mkdir(parents=True, mode=0o700)
    await place_cluster(data)
    (data / "secret").write_text(SECRET)
    async with embedded.start(data, secret=SECRET, announce=lambda _: None) as urls:
        backends = Backends(urls.database_url, urls.redis_url, SECRET)
        shop = RestoredShop(data, backends, Dumps(backends, data, data / "dumps"))
        try:
            await shop.trade()
            yield shop
        finally:
            if hasattr(shop, "program"):
                await shop.program.stop()
