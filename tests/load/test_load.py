"""Under more load than it can take, the shop refuses what is too much, and ends what it has accepted; under light load
for long, it stays as it is.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from tests.load.burst import BurstPlan, BurstResult, find_unsound_answers, run_burst
from tests.load.soak import Soak, SoakPlan, list_bounded_tables, list_kept_jobs
from tests.load.trends import Bounds, Sample, assess_samples
from tests.support.shop import wait_until


@pytest.mark.parametrize(
    ("statuses", "without_retry_after", "found"),
    [
        ({"202": 5, "429": 9}, 0, []),
        ({"202": 5, "429": 9}, 2, ["2 of the answers 429 did not say when to come again"]),
        ({"202": 5, "429": 9, "503": 1}, 0, ["1 answers were 503"]),
        ({"202": 5, "429": 9, "no answer": 3}, 0, ["3 answers were no answer"]),
        ({"202": 5}, 0, ["nothing was shed"]),
        ({"429": 5}, 0, ["no order of the burst was accepted"]),
    ],
)
def test_what_a_shop_under_load_may_not_answer_is_found(
    statuses: dict[str, int], without_retry_after: int, found: list[str]
) -> None:
    assert find_unsound_answers(BurstResult(statuses=statuses), without_retry_after) == found


@pytest.mark.slow
async def test_a_burst_is_shed_and_nothing_that_was_accepted_is_lost() -> None:
    plan = BurstPlan(sustained_seconds=8, burst_seconds=15, factor=10, apart=False)
    result = await run_burst(plan)
    assert result.violations == []
    assert result.accepted_rate > result.sustained_rate / 4


def make_samples(minutes: int, memory: Callable[[int], float], rows: Callable[[int], int]) -> list[Sample]:
    """One a minute, two parts."""
    return [
        Sample(
            int(minute >= minutes // 2),
            minute / 60,
            {"orders": {"memory": memory(minute), "resident": 90.0, "handles": 40.0, "threads": 5.0}},
            {"orders.inbox": rows(minute), "orders.event": 100 * minute, "valkey.mail completed": min(minute, 60)},
        )
        for minute in range(minutes)
    ]


def assess(samples: list[Sample], kept: int = 60) -> list[str]:
    bounds = Bounds(warm_up_hours=0.1, most_rows={"valkey.mail completed": kept})
    return assess_samples(samples, ["orders.inbox"], bounds).list_violations()


def test_a_shop_that_stays_as_it_is_passes_its_soak_whatever_it_takes_at_its_start_and_whatever_must_grow() -> None:
    level = make_samples(120, lambda minute: 100 + 30 * min(minute % 60, 6), lambda minute: 500 + 60 * (minute % 3))
    assert assess(level) == []


def test_growing_memory_and_a_table_that_is_never_pruned_fail_a_soak() -> None:
    growing = assess(make_samples(120, lambda minute: 100 + minute / 2, lambda minute: 10 * minute))
    assert [text.split(" in ")[0] for text in growing] == [
        "orders: memory grew by 53.0",
        "orders.inbox: rows grew by 1060.0",
        "orders.inbox: nothing was ever removed from it",
    ]


def test_more_finished_jobs_than_are_kept_fail_a_soak() -> None:
    level = make_samples(120, lambda _: 100, lambda minute: 500 + 60 * (minute % 3))
    assert assess(level, kept=50) == ["valkey.mail completed: 60 are kept, at most 50 should be"]


@pytest.mark.slow
async def test_a_short_soak_shows_that_what_is_old_is_removed_and_goes_on_after_it_was_stopped(tmp_path: Path) -> None:
    plan = SoakPlan(minutes=4, orders_per_second=3, sample_seconds=5, age_minutes=0.3)
    first = Soak(plan, tmp_path)
    running = asyncio.create_task(first.run())

    async def has_measured() -> bool:
        return len(first.samples) >= 4 or running.done()

    await wait_until(has_measured, seconds=200)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    second = Soak(plan, tmp_path)
    assert len(second.samples) >= 4
    assert second.orders == first.orders
    assert await second.run() == []
    assert {sample.part for sample in second.samples} == {0, 1}
    inbox = [sample.tables["orders.inbox"] for sample in second.samples if sample.part == 1]
    assert any(later < earlier for earlier, later in pairwise(inbox)), "it is pruned"
    bounds = Bounds(
        warm_up_hours=0.02, memory_per_hour=30, handles=10, threads=10, table_share=0.5, most_rows=list_kept_jobs()
    )
    assert assess_samples(second.samples, list_bounded_tables(), bounds).list_violations() == []
