"""Runs schedules in lockstep: in each tick the messages of all of them for one reader go through its inbox as one
batch, which is what a busy shop does and what makes thousands of schedules affordable.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from caravan.audit import AUDIT
from caravan.bus import HandlingResult, IncomingMessage
from caravan.messages import OutgoingMessage
from tests.simulation.people import cancel_order, move_stock, place_order, receive_first_stock, run_job
from tests.simulation.plan import CALM_TICKS, CHAOS_TICKS, SKIP, Plan
from tests.simulation.schedule import Schedule, Waiting
from tests.simulation.shop import (
    NAMES,
    RUNS,
    Reader,
    SimulatedShop,
)
from tests.simulation.stand_ins import SimulatedCrash

GROUP = 128
"""So many schedules run beside each other: their seeds follow each other, and they share a plan."""
MAX_BATCH = 400


@dataclass
class Group:
    """Schedules that run beside each other, and what became of them."""

    shop: SimulatedShop
    schedules: list[Schedule]
    plan: Plan
    reached: Counter[str]
    ticks: int = 0
    _by_order: dict[str, tuple[Schedule, int]] = field(init=False)

    @classmethod
    def build(cls, shop: SimulatedShop, seeds: Sequence[int]) -> "Group":
        run = next(RUNS)
        effects = [reader.subscription.name for reader in shop.readers if reader.inbox.consumer.is_effect]
        names = [reader.subscription.name for reader in shop.readers]
        plan = Plan(seeds[0] // GROUP, names, effects, shop.sweeps, NAMES)
        assert {seed // GROUP for seed in seeds} == {seeds[0] // GROUP}, "these seeds have different plans"
        reached: Counter[str] = Counter()
        return cls(shop, [Schedule(seed, run, reached) for seed in seeds], plan, reached)

    def __post_init__(self) -> None:
        self._by_order = {
            str(order.order_id): (schedule, order.number) for schedule in self.schedules for order in schedule.orders
        }

    def choose_failure(self, reference: str, call: str) -> str:
        schedule, order = self._by_order[reference]
        failure = schedule.choose_failure(order, call)
        if failure:
            self.reached[f"provider: {call} {failure}"] += 1
        return failure

    async def run(self) -> None:
        """All ticks with faults, then without, until everything has come to rest."""
        self.shop.provider.mood = self
        await receive_first_stock(self.shop, self.schedules)
        while self.ticks < CHAOS_TICKS + CALM_TICKS:
            if self.ticks == CHAOS_TICKS:
                for schedule in self.schedules:
                    schedule.is_calm = True
            if self.ticks > CHAOS_TICKS + 10 and self.ticks % 5 == 0 and await self._is_at_rest():
                break
            await self._run_tick()
            self.ticks += 1

    async def _is_at_rest(self) -> bool:
        if not all(schedule.is_delivered for schedule in self.schedules):
            return False
        orders = [order.order_id for schedule in self.schedules for order in schedule.orders]
        waiting = {
            "processing": "SELECT count(*) FROM saga WHERE NOT closed AND order_id = ANY($1)",
            "payments": "SELECT (SELECT count(*) FROM payment WHERE due_at IS NOT NULL AND order_id = ANY($1))"
            " + (SELECT count(*) FROM refund WHERE due_at IS NOT NULL AND order_id = ANY($1))",
            "shipping": "SELECT count(*) FROM shipment WHERE due_at IS NOT NULL AND order_id = ANY($1)",
        }
        for name, query in waiting.items():
            if await self.shop.contexts[name].database.fetchval(query, orders):
                return False
        for name in NAMES:
            if await self.shop.contexts[name].database.fetchval("SELECT count(*) FROM outbox"):
                return False
        return True

    async def _run_tick(self) -> None:
        self.shop.clock.advance(self.plan.get_seconds(self.ticks))
        for schedule in self.schedules:
            schedule.tick = self.ticks
        actions = [(schedule, action) for schedule in self.schedules for action in schedule.choose_actions()]
        by_place = defaultdict(list)
        for schedule, action in actions:
            by_place[action.kind].append((schedule, action))
        await asyncio.gather(*(place_order(self.shop, *each) for each in by_place.pop("place", ())))
        await asyncio.gather(*(cancel_order(self.shop, *each) for each in by_place.pop("cancel", ())))
        for moves in by_place.values():
            for schedule, action in moves:
                await move_stock(self.shop, schedule, action)
        for reader in self.shop.readers:
            await self._deliver(reader)
        for name, sweep in self.shop.sweeps.items():
            await self._sweep(name, sweep)
        await asyncio.gather(*(run_job(self.shop, schedule) for schedule in self.schedules))
        for schedule in self.schedules:
            schedule.note_calls()
            schedule.repeat_late()
        for name in NAMES:
            await self._relay(name)
        self._route_jobs()

    async def _deliver(self, reader: Reader) -> None:
        """One batch for all schedules in which nothing fails; whoever's handler fails has a batch of its own."""
        name = reader.subscription.name
        fate = self.plan.get_fate(self.ticks, name)
        if fate == SKIP:
            return
        batches: list[list[tuple[Schedule, list[Waiting]]]] = [[]]
        doomed_batches: list[tuple[Schedule, list[Waiting], Waiting]] = []
        size = 0
        for schedule in self.schedules:
            picks, doomed = schedule.choose_deliveries(name)
            if doomed is not None:
                doomed_batches.append((schedule, picks, doomed))
            elif picks:
                if size + len(picks) > MAX_BATCH:
                    batches.append([])
                    size = 0
                batches[-1].append((schedule, picks))
                size += len(picks)
        for batch in filter(None, batches):
            await self._run_batch(reader, fate, batch)
        for schedule, picks, doomed in doomed_batches:
            reader.doomed = {doomed.message.id}
            self.reached["handler failed before its commit"] += 1
            await self._run_batch(reader, fate, [(schedule, picks)])
            reader.doomed = set()

    async def _run_batch(self, reader: Reader, fate: str, batch: list[tuple[Schedule, list[Waiting]]]) -> None:
        incoming = [
            IncomingMessage(waiting.message.key, waiting.message.body, waiting.attempt)
            for _, picks in batch
            for waiting in picks
        ]
        self.shop.crashes.armed = fate
        try:
            results = await reader.inbox.process_batch(incoming)
        except SimulatedCrash:
            self.reached[f"died at {fate}"] += 1
            for schedule, _ in batch:
                schedule.note(f"{reader.subscription.name} died at {fate}")
            return
        finally:
            self.shop.crashes.armed = ""
            lines, self.shop.inbox_log.lines = self.shop.inbox_log.lines, []
        if not reader.doomed and lines:
            batch[0][0].violations.append(f"{reader.subscription.name} failed by itself: {lines}")
        start = 0
        for schedule, picks in batch:
            mine: Sequence[HandlingResult] = results[start : start + len(picks)]
            start += len(picks)
            schedule.settle(reader.subscription.name, picks, mine)

    async def _sweep(self, name: str, sweep: Any) -> None:
        fate = self.plan.get_fate(self.ticks, name)
        if fate == SKIP:
            return
        self.shop.crashes.armed = fate
        has_more = True
        while has_more:
            try:
                has_more = await sweep()
            except SimulatedCrash:
                self.reached[f"died at {fate}"] += 1
                if name == "project-orders":
                    break  # it has no lease: it would meet the same events again
        self.shop.crashes.armed = ""

    async def _relay(self, name: str) -> None:
        fate = self.plan.get_fate(self.ticks, f"relay {name}")
        if fate == SKIP:
            return
        self.shop.crashes.armed = fate
        try:
            while await self.shop.relays[name].relay_batch():
                pass
        except SimulatedCrash:
            self.reached[f"died at {fate}"] += 1
            self.shop.restart_relay(name)
        finally:
            self.shop.crashes.armed = ""
        self._route(name, self.shop.bus.take())

    def _route(self, service: str, messages: Iterable[OutgoingMessage]) -> None:
        """To every reader of each; those of one schedule by their orders, which is what no transport promises."""
        mine: dict[int, list[tuple[int, OutgoingMessage]]] = defaultdict(list)
        schedules: dict[int, Schedule] = {}
        for message in messages:
            self._note_shortage(message)
            found = self._by_order.get(message.key)
            if found is not None:
                schedules[found[0].seed] = found[0]
                mine[found[0].seed].append((found[1], message))
        for seed, sent in mine.items():
            for order, message in sorted(sent, key=lambda each: each[0]):
                label = orjson.loads(message.body)["type"].rpartition(".")[2]
                schedules[seed].note(f"{service} sent {label} #{order} to {message.channel}")
                for reader in self.shop.readers:
                    if reader.carries(message):
                        schedules[seed].enqueue(reader.subscription.name, message, order, label)

    def _note_shortage(self, message: OutgoingMessage) -> None:
        """A parcel may leave after its reservation has ended; what the books then lack is told to the audit log."""
        if message.channel == AUDIT.name and b"stock.short" in message.body:
            data = orjson.loads(message.body)["data"]
            schedule = self._by_order[data["details"]["order_id"]][0]
            schedule.short[message.id] = data["details"]["wanted"] - data["details"]["free"]
            self.reached["shipped what the books do not have"] += 1

    def _route_jobs(self) -> None:
        found = [(*self._by_order[request.data["order_id"]], request) for request in self.shop.jobs.take()]
        for schedule, order, request in sorted(found, key=lambda each: (each[1], each[2].data["attempt"])):
            schedule.add_job(self.shop.clock.now, order, request)
