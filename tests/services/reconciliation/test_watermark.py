"""How far the books are compared: no further than every service has come with its messages."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from caravan.clock import EPOCH, utc_now
from caravan.errors import ServiceUnavailable
from caravan.status import Flow, RequestFlow, ServiceStatus, SubscriptionFlow
from services.reconciliation.use_cases import Lag, ReconciliationContext, choose_watermark, measure_lag
from tests.services.reconciliation.conftest import compare
from tests.services.reconciliation.planting import Order, Planter
from tests.support.shop import wait_until

NOW = utc_now()


def make_status(name: str, waiting: int | None = 0, oldest: float | None = 0.0, age: float = 3600.0) -> ServiceStatus:
    flow = SubscriptionFlow(
        channel="topic",
        handled=Flow(),
        duplicates=Flow(),
        retries=Flow(),
        dead_letters=Flow(),
        waiting=waiting,
        oldest_seconds=oldest,
        consumers=None,
    )
    return ServiceStatus(
        service=name,
        instance="here:1",
        version="1",
        started_at=NOW - timedelta(seconds=age),
        not_ready=[],
        warnings=[],
        window_seconds=None,
        requests=RequestFlow(answered=Flow(), failed=Flow(), mean_seconds=None),
        outbox=None,
        published=[],
        subscriptions=[flow],
        breakers=[],
        cache=None,
    )


@pytest.mark.parametrize(
    ("inventory", "expected"),
    [
        (make_status("inventory"), Lag()),
        (make_status("inventory", 3, 40.0), Lag(timedelta(seconds=40), "inventory is behind with topic")),
        (
            make_status("inventory", 3, None),
            Lag(reason="inventory has not measured what waits in topic", is_known=False),
        ),
        (make_status("inventory", age=0.1), Lag(reason="inventory has only just started", is_known=False)),
        (None, Lag(reason="inventory does not answer: away", is_known=False)),
    ],
)
async def test_the_lag_is_that_of_the_slowest_service(
    context: ReconciliationContext, inventory: ServiceStatus | None, expected: Lag
) -> None:
    async def call(operation: Any, _: Any) -> ServiceStatus:
        if operation.service != "inventory":
            return make_status(operation.service)
        if inventory is None:
            raise ServiceUnavailable("away")
        return inventory

    assert await measure_lag(replace(context, call=call, clock=lambda: NOW)) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lag", "last", "expected"),
    [
        (Lag(), None, NOW - timedelta(seconds=1)),
        (Lag(timedelta(seconds=40)), None, NOW - timedelta(seconds=41)),
        (Lag(timedelta(hours=9)), NOW - timedelta(minutes=2), NOW - timedelta(minutes=2)),
        (Lag(is_known=False), NOW - timedelta(minutes=2), NOW - timedelta(minutes=2)),
        (Lag(is_known=False), None, EPOCH),
    ],
)
async def test_the_watermark_stays_behind_the_lag_and_never_goes_back(
    context: ReconciliationContext, lag: Lag, last: datetime | None, expected: datetime
) -> None:
    async def measure(_: Any) -> Lag:
        return lag

    resources = replace(context.resources, measure_lag=measure)
    behind = replace(context, resources=resources, clock=lambda: NOW)
    assert (await choose_watermark(behind, last))[0] == expected


async def test_what_changed_after_the_watermark_is_compared_once_the_lag_is_gone(
    context: ReconciliationContext, planter: Planter, monkeypatch: pytest.MonkeyPatch
) -> None:
    await compare(context)
    order_id = await planter.plant_order(Order(events=(), reservation="", shipment="", age=timedelta()))

    async def measure(_: Any) -> Lag:
        return Lag(reason="inventory does not answer", is_known=False)

    find = "SELECT count(*) FROM gap_case WHERE order_id = $1"
    with monkeypatch.context() as patch:
        patch.setattr(context.resources, "measure_lag", measure)
        held = await compare(context)
        assert held.held_by == "inventory does not answer"
        assert await context.database.fetchval(find, order_id) == 0

    async def is_found() -> bool:
        await compare(context)
        return bool(await context.database.fetchval(find, order_id))

    await wait_until(is_found, every=0.2)
