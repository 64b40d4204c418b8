"""A shop in which nothing lags; comparisons run only when a test says so. Of the services whose books are compared only
those run to which commands are sent.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from caravan.clock import new_id
from caravan.runtime import Backends, run_migrations
from services.reconciliation.store import runs
from services.reconciliation.store.books import OUTBOXES
from services.reconciliation.store.runs import Run
from services.reconciliation.use_cases import Lag, ReconciliationContext
from services.reconciliation.use_cases.compare import execute_run
from services.registry import load_services
from tests.services.reconciliation.planting import Planter, open_planter
from tests.support.shop import Shop, run_services, wait_until


async def keep_up(_: Any) -> Lag:
    return Lag()


@pytest.fixture(scope="module")
async def shop(backends: Backends) -> AsyncIterator[Shop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECONCILIATION_RUN_SECONDS", "80000")
        patch.setenv("RECONCILIATION_SETTLE_SECONDS", "1")
        await run_migrations(load_services(OUTBOXES), backends)
        async with run_services(backends, "reconciliation", "payments", "inventory") as shop:
            context = shop.get_context("reconciliation")
            context.resources.measure_lag = keep_up
            await wait_until(lambda: runs.find_last(context.database))
            yield shop


@pytest.fixture(scope="module")
def context(shop: Shop) -> ReconciliationContext:
    return shop.get_context("reconciliation")


@pytest.fixture(scope="module")
async def planter(shop: Shop, backends: Backends) -> AsyncIterator[Planter]:
    async with open_planter(backends) as planter:
        yield planter


async def compare(context: ReconciliationContext, mode: str = "changes") -> Run:
    """One comparison, here and now."""
    run = Run(new_id(), mode, "new", "", context.clock(), None, None, None, "", 0, 0, 0, 0, "")
    holder = f"test {run.id}"

    async def hold() -> bool:
        return await runs.hold_progress(context.database, holder, context.clock())

    await wait_until(hold)
    finished = await execute_run(context, run, holder)
    await runs.release_progress(context.database, holder)
    assert finished.state == "done", finished.reason
    return finished
