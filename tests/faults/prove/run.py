"""A proof: customers order while the plan's faults strike one after the other; then everything is healed, and the books
are looked at. What has happened is written into the folder, so that a proof that was stopped goes on from there.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from tests.faults.prove.traces import ORDERS_MAX, Traces, check_traces, keep_spans

CUSTOMERS = 6
SPANS, INTERRUPTED = "spans.jsonl", "interrupted"
DEADLY = ("kill service", "crash point")
"""Kinds after which a process has not sent its last spans."""
POLL_SECONDS = 0.1


@dataclass
class Struck:
    """A fault that has been: when it began and ended, and the proof that it happened."""

    fault: PlannedFault
    began: float
    ended: float
    evidence: str
    ended_by_themselves: list[str] = field(default_factory=list)
    """Processes that nobody had killed."""


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
    traces: Traces | None = None
    """None: they were not looked at."""
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.plan = draw_plan(self.seed, self.orders, self.size, self.only)
        self.intents = Intents.load(self.folder / "intents.jsonl")
        if (faults := self.folder / "faults.jsonl").exists():
            for line in faults.read_bytes().splitlines():
                fields = orjson.loads(line)
                self.struck.append(Struck(PlannedFault(**fields.pop("fault")), **fields))
        if self.intents.counts["ok"]:
            (self.folder / INTERRUPTED).touch()

    async def run(self) -> None:
        began = time.monotonic()
        async with self._open_shop() as shop:
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
        self.seconds = time.monotonic() - began

    @asynccontextmanager
    async def _open_shop(self) -> AsyncIterator[ProvenShop]:
        async with AsyncExitStack() as stack:
            url = stack.enter_context(keep_spans(self.folder / SPANS)) if self._is_traced() else ""
            yield await stack.enter_async_context(open_shop(self.folder / "shop", self.size, url))

    def _is_traced(self) -> bool:
        """An interruption ends all processes at once, and what they had to send."""
        return self.orders <= ORDERS_MAX and not (self.folder / INTERRUPTED).exists()

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
            began, ended_before = time.time(), len(strikes.shop.ended_by_themselves)
            evidence = await strikes.strike(fault)
            struck = Struck(fault, began, time.time(), evidence, strikes.shop.ended_by_themselves[ended_before:])
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
        if self._is_traced():
            deaths = [
                (each.began, each.ended)
                for each in self.struck
                if each.fault.kind in DEADLY or each.ended_by_themselves
            ]
            self.traces = await check_traces(shop.backends, self.folder / SPANS, deaths)
            self.violations += self.traces.find_violations()

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
            "ended by themselves": [text for each in self.struck for text in each.ended_by_themselves],
            "recovery": asdict(self.recovery) if self.recovery else None,
            "traces": self.traces.describe() if self.traces else "not looked at",
            "violations": self.violations,
            "seconds": round(self.seconds, 1),
        }
