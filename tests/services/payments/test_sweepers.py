"""Sweepers of several replicas: what one of them has, no other takes or waits for."""

import asyncio
from datetime import UTC, datetime, timedelta

from caravan.clock import new_id
from services.payments.store import refunds
from tests.services.payments.conftest import Till

LATER = datetime(2100, 1, 1, tzinfo=UTC)
"""Due long after the shop's own sweeper looks."""


async def test_a_refund_that_is_being_claimed_is_passed_over_and_each_other_is_claimed_once(till: Till) -> None:
    database, ids = till.shop.get_database("payments"), [new_id() for _ in range(5)]
    await database.fetch(
        "WITH paid AS (INSERT INTO payment (order_id, status, amount, currency, created_at, updated_at)"
        " SELECT o, 'refunding', 100, 'GBP', $2, $2 FROM unnest($1::uuid[]) AS o RETURNING order_id)"
        " INSERT INTO refund (order_id, state, amount, reason, due_at, requested_at)"
        " SELECT order_id, 'requested', 100, 'test', $2, $2 FROM paid",
        ids,
        LATER,
    )
    async with database.unit_of_work() as other:
        await other.fetch("SELECT FROM refund WHERE order_id = $1 FOR UPDATE", ids[0])
        claims = [
            asyncio.create_task(refunds.claim_due_refunds(database, LATER + timedelta(hours=1), LATER, 50))
            for _ in range(2)
        ]
        finished, _ = await asyncio.wait(claims, timeout=3)
    claimed = [refund.order_id for refunds_of_one in await asyncio.gather(*claims) for refund in refunds_of_one]
    await database.fetch("UPDATE refund SET due_at = NULL, state = 'done' WHERE order_id = ANY($1)", ids)
    assert sorted(claimed) == sorted(ids[1:])
    assert len(finished) == 2, "nobody waits for it"
