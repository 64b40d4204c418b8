"""Runs schedules by their seeds and says what was found: violations with the steps that led there, and how often each
branch of interest was reached.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

import asyncpg

from caravan.runtime import Backends
from tests.simulation.checks import check_group
from tests.simulation.driver import GROUP, Group
from tests.simulation.plan import EFFECT_POINTS, HANDLER_POINTS, RELAY_POINTS, SWEEP_POINTS
from tests.simulation.shop import open_shop

BRANCHES = (
    *(f"end: {end}" for end in ("delivered", "rejected", "payment_failed", "cancelled", "refunded")),
    *(f"died at {point}" for point in (*HANDLER_POINTS, *EFFECT_POINTS, *RELAY_POINTS)),
    *(f"died at {point}" for points in SWEEP_POINTS.values() for point in points),
    "handler failed before its commit",
    "repeated message refused by the inbox",
    "step sent again after its deadline",
    "reservation expired",
    "cancelled before it was charged",
    "cancellation refused at once",
    "cancellation too late: refused",
    "shipment stopped in time",
    "shipment could not be stopped",
    "refund asked for before the charge was known",
    "refund asked for twice",
    "charge asked for twice with one key",
    "charged at a later attempt",
    "provider: capture unreachable",
    "provider: capture no answer",
    "provider: refund unreachable",
    "provider: refund no answer",
    "refused at once: not in stock",
    "stock by hand refused",
)
"""Each must be reached at least once in a run of a few hundred schedules: what is never reached proves nothing."""


@dataclass(frozen=True, slots=True)
class ScheduleResult:
    """What happened in a schedule, step by step, and which invariants don't hold of it."""

    seed: int
    violations: list[str]
    log: list[str]

    def describe(self) -> str:
        steps = "\n".join(self.log)
        return f"seed {self.seed}:\n{steps}\n" + "\n".join(f"seed {self.seed}: {each}" for each in self.violations)


async def run_schedules(
    backends: Backends,
    seeds: Sequence[int],
    *,
    keep_logs: bool = False,
    report_progress: Callable[[int, int], None] = lambda *_: None,
) -> tuple[list[ScheduleResult], Counter[str]]:
    """The schedules of these seeds: those with violations (with `keep_logs` all of them), and what was reached.
    `report_progress` gets how many have been run, and with how many violations.
    """
    await _stop_waiting_for_the_disk(backends.database_url)
    results: list[ScheduleResult] = []
    reached: Counter[str] = Counter()
    done = 0
    async with open_shop(backends) as shop:
        for _, group_seeds in groupby(seeds, lambda seed: seed // GROUP):
            group = Group.build(shop, list(group_seeds))
            await group.run()
            await check_group(group, backends)
            reached += group.reached
            results += [
                ScheduleResult(schedule.seed, schedule.violations, schedule.log)
                for schedule in group.schedules
                if keep_logs or schedule.violations
            ]
            done += len(group.schedules)
            report_progress(done, sum(bool(result.violations) for result in results))
    return results, reached


async def _stop_waiting_for_the_disk(database_url: str) -> None:
    """A simulated crash is one of a process, never of the machine."""
    connection = await asyncpg.connect(database_url)
    try:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            await connection.execute(f"ALTER SYSTEM SET {setting} = off")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


def list_unreached(reached: Counter[str]) -> list[str]:
    return [branch for branch in BRANCHES if not reached[branch]]


def print_reached(reached: Counter[str]) -> None:
    for branch in sorted({*BRANCHES, *reached}):
        print(f"{reached[branch]:9}  {branch}")
