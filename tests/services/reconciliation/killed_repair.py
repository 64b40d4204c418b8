"""Repairs a case in a process of its own, which may end at a failpoint: the program of `test_killed_repair.py`."""

import asyncio
import sys
from uuid import UUID

from caravan import failpoint
from caravan.runtime import Backends
from services.reconciliation.use_cases import repair
from tests.support.shop import run_services


async def repair_once(backends: Backends, case_id: UUID, point: str) -> None:
    async with run_services(backends, "reconciliation", "payments") as shop:
        failpoint.arm(point)
        context = shop.get_context("reconciliation")
        await repair.repair_case(context, case_id, "admin:test", "killed", is_dry_run=False)


if __name__ == "__main__":
    database_url, redis_url, secret, case, point = sys.argv[1:]
    asyncio.run(repair_once(Backends(database_url, redis_url, secret), UUID(case), point))
