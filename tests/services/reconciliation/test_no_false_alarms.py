"""Orders that are delivered, declined, rejected, cancelled early and late, refunded, charged without an answer, with
every message sent five times: not one case is opened, at any moment.
"""

from pathlib import Path

import pytest

from caravan.runtime import Backends
from services.reconciliation.store import cases, runs
from tests.faults.repeating import Repeating, wait_for_rest
from tests.support.scenario import run_whole_shop
from tests.support.shop import wait_until

SETTLE_SECONDS = "3"


async def test_a_shop_in_which_all_goes_wrong_that_may_has_no_case(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECONCILIATION_RUN_SECONDS", "1")
    monkeypatch.setenv("RECONCILIATION_SETTLE_SECONDS", SETTLE_SECONDS)
    async with run_whole_shop(backends, tmp_path / "shop", wrap=Repeating) as scenario:
        context = scenario.shop.get_context("reconciliation")
        await scenario.run_scenario()
        await wait_for_rest(scenario, backends)
        ended_at = context.clock()

        async def is_compared() -> bool:
            last = await runs.find_last(context.database)
            assert last is not None and last.watermark is not None
            assert last.watermark > ended_at, f"{last.watermark}: {last.held_by or last.reason}"
            return await runs.count_watched(context.database) == 0

        await wait_until(is_compared, seconds=60, every=0.5)
        found = await cases.list_cases(context.database, None, None, None, None, 100)
        assert [(case.gap_class, case.subject, case.state, case.details) for case in found] == []
        assert await context.database.fetchval("SELECT count(*) FROM provider_entry") >= len(scenario.orders)
