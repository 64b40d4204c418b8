"""A repair that is killed in the middle, and repeated, happens once."""

import asyncio
import os
import sys
from uuid import UUID

from caravan.runtime import Backends
from services.reconciliation.store import cases
from services.reconciliation.use_cases import ReconciliationContext
from tests.services.reconciliation.conftest import compare
from tests.services.reconciliation.planting import Order, Planter
from tests.support.program import ROOT
from tests.support.shop import Shop, wait_until

KILLED = 137


async def repair_in_process(backends: Backends, case_id: UUID, point: str = "") -> int:
    """Its exit status."""
    arguments = ["-m", "tests.services.reconciliation.killed_repair", backends.database_url, backends.redis_url]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        backends.secret,
        str(case_id),
        point,
        cwd=ROOT,
        env={**os.environ, "RECONCILIATION_RUN_SECONDS": "80000", "RECONCILIATION_SETTLE_SECONDS": "1"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


async def test_a_repair_that_is_killed_in_the_middle_happens_once(
    shop: Shop, backends: Backends, context: ReconciliationContext, planter: Planter
) -> None:
    order_id = await planter.plant_order(Order(events=(), reservation="", shipment=""))
    await compare(context)
    (case,) = [case for case in await cases.list_unsettled(context.database) if case.order_id == order_id]
    payments = shop.get_database("payments")

    async def count_refunds() -> tuple[int, int]:
        """At the provider, and as commands that payments has handled."""
        refunds = "SELECT count(*) FROM provider_ledger WHERE reference = $1 AND kind = 'refund'"
        handled = "SELECT count(*) FROM inbox WHERE key = $1 AND consumer LIKE '%payments.refund%'"
        return await payments.fetchval(refunds, str(order_id)), await payments.fetchval(handled, order_id)

    assert await repair_in_process(backends, case.id, "reconciliation.repair_before_commit") == KILLED
    before = await cases.find_case(context.database, case.id)
    assert before is not None
    assert (before.state, await count_refunds()) == ("open", (0, 0)), "nothing was committed, so nothing was sent"
    assert await repair_in_process(backends, case.id, "reconciliation.repair_after_commit") == KILLED
    after = await cases.find_case(context.database, case.id)
    assert after is not None and after.state == "repairing"
    assert await repair_in_process(backends, case.id) not in (0, KILLED), "it is under repair already"
    await wait_until(lambda: payments.fetchval("SELECT state = 'done' FROM refund WHERE order_id = $1", order_id))
    assert await count_refunds() == (1, 1)
