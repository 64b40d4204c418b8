"""A proof: customers order while the plan's faults strike one after the other; then everything is healed, and the books
are looked at. What has happened is written into the folder, so that a proof that was stopped goes on from there.
"""

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from tests.faults.prove.checks import (
    REST_SECONDS,
    Recovery,
    check_read_models,
    find_violations,
    list_open_orders,
    restart_everything,
    wait_for_rest,
)
from tests.faults.prove.customers import Customers, Intents
from tests.faults.prove.plan import PlannedFault, draw_plan
from tests.faults.prove.shop import ProvenShop, open_shop
from tests.faults.prove.strikes import Strikes

CUSTOMERS = 6
POLL_SECONDS = 0.1


@dataclass
class Struck:
    """A fault that has been: when it began and ended, and the proof that it happened."""

    fault: PlannedFault
    began: float
    ended: float
    evidence: str


@dataclass
class Proof:
    seed: int
    orders: int
    size: str
    folder: Path
    only: Collection[str] = ()
    """Kinds; all when none is named."""
    struck: list[Struck] = field(default_factory=list)
    intents: Intents = field(init=False)
    plan: list[PlannedFault] = field(init=False)
    recovery: Recovery | None = None
    violations: list[str] = field(default_factory=list)
    ended_by_themselves: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.plan = draw_plan(self.seed, self.orders, self.size, self.only)
        self.intents = Intents.load(self.folder / "intents.jsonl")
        if (faults := self.folder / "faults.jsonl").exists():
            for line in faults.read_bytes().splitlines():
                fields = orjson.loads(line)
                self.struck.append(Struck(PlannedFault(**fields.pop("fault")), **fields))

    async def run(self) -> None:
        began = time.monotonic()
        async with open_shop(self.folder / "shop", self.size) as shop:
            customers = Customers(
                shop.program,
                self.intents,
                self.orders,
                random.Random(f"customers {self.seed} {len(self.intents.accepted)}"),
                self._get_limit,
            )
            tasks = await customers.come(CUSTOMERS)
            try:
                await self._strike_all(Strikes(shop, customers), tasks)
                customers.is_closing = True
                open_orders = await list_open_orders(shop.backends)
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
            await self._check_everything(shop, open_orders)
            self.ended_by_themselves = shop.ended_by_themselves
        self.seconds = time.monotonic() - began

    def _get_limit(self) -> int:
        """How many orders there may be before the next fault has struck."""
        following = len(self.struck) + 1
        return self.plan[following].after_orders if following < len(self.plan) else self.orders

    async def _strike_all(self, strikes: Strikes, tasks: Sequence[asyncio.Task[None]]) -> None:
        for fault in self.plan[len(self.struck) :]:
            while len(self.intents.accepted) < fault.after_orders:
                for task in tasks:
                    if task.done():
                        task.result()
                await asyncio.sleep(POLL_SECONDS)
            began = time.time()
            evidence = await strikes.strike(fault)
            struck = Struck(fault, began, time.time(), evidence)
            self.struck.append(struck)
            with (self.folder / "faults.jsonl").open("ab") as out:
                out.write(orjson.dumps(asdict(struck)) + b"\n")
            seconds = struck.ended - struck.began
            print(
                f"{len(self.struck):3}/{len(self.plan)} {len(self.intents.accepted):6} orders  {fault.kind}, "
                f"{fault.target}: {evidence or 'DID NOT HAPPEN'} ({seconds:.1f} s)",
                flush=True,
            )

    async def _check_everything(self, shop: ProvenShop, open_orders: set[UUID]) -> None:
        healed_at = self.struck[-1].ended if self.struck else time.time()
        self.recovery, remaining = await wait_for_rest(shop, healed_at, open_orders)
        if remaining or self.recovery.rest_seconds > REST_SECONDS:
            self.violations.append(f"no rest after {self.recovery.rest_seconds:.0f} s: {remaining}")
        print(f"at rest {self.recovery.rest_seconds:.1f} s after the last fault", flush=True)
        self.violations += await find_violations(shop, self.intents)
        self.violations += await check_read_models(shop)
        await restart_everything(shop)
        again = await find_violations(shop, self.intents)
        self.violations += [f"after the restart: {text}" for text in again if text not in self.violations]

    def list_unseen(self) -> list[str]:
        """Kinds that never left a proof that they happened."""
        seen = {each.fault.kind for each in self.struck if each.evidence}
        return sorted({fault.kind for fault in self.plan} - seen)

    def summarize(self) -> dict[str, Any]:
        happened = sum(bool(each.evidence) for each in self.struck)
        return {
            "seed": self.seed,
            "size": self.size,
            "orders": len(self.intents.accepted),
            "attempts": self.intents.counts,
            "faults": happened,
            "kinds": len({each.fault.kind for each in self.struck if each.evidence}),
            "unseen kinds": self.list_unseen(),
            "ended by themselves": self.ended_by_themselves,
            "recovery": asdict(self.recovery) if self.recovery else None,
            "violations": self.violations,
            "seconds": round(self.seconds, 1),
        }
