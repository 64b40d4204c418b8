"""Under more load than it can take, the shop refuses what is too much, and ends what it has accepted."""

import pytest

from tests.load.burst import BurstPlan, BurstResult, find_unsound_answers, run_burst


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
