"""A few hundred schedules of six services over a bus that repeats and reorders, with deaths, failures and cancellations
wherever they may come: what must hold of money, stock and sagas holds of each. `make schedules` runs thousands.
"""

from collections.abc import Callable
from typing import Any, cast

import pytest

from caravan.bus import DONE, HandlingResult, IncomingMessage
from caravan.inbox import Inbox
from caravan.runtime import Backends
from services.inventory import model as inventory
from services.payments import model as payments
from services.payments.client import HoldResult
from services.payments.use_cases import charge, refund
from services.processing.model import Saga
from tests.simulation.driver import GROUP
from tests.simulation.report import list_unreached, print_reached, run_schedules

GROUPS = 2
AMONG = 24


async def test_schedules_end_with_every_invariant_whole(backends: Backends) -> None:
    results, reached = await run_schedules(backends, range(GROUPS * GROUP))
    print_reached(reached)
    assert [result.describe() for result in results] == []
    assert list_unreached(reached) == []


async def test_a_seed_alone_takes_the_steps_that_it_took_among_others(backends: Backends) -> None:
    seeds = (3, AMONG - 1)
    among_others, _ = await run_schedules(backends, range(AMONG), keep_logs=True)
    logs = {result.seed: result.log for result in among_others}
    for seed in seeds:
        (alone,), _ = await run_schedules(backends, [seed], keep_logs=True)
        assert len(alone.log) > 50
        assert alone.log == logs[seed]


def reserve_what_is_not_there(patch: pytest.MonkeyPatch) -> None:
    """A reservation without its condition: only the law in the table is left."""
    reserve_lines = inventory.StockLedger.reserve_lines

    def reserve(ledger: inventory.StockLedger, *arguments: Any) -> inventory.Reservation:
        with pytest.MonkeyPatch.context() as unchecked:
            unchecked.setattr(inventory.Stock, "available", property(lambda _: 1_000))
            return reserve_lines(ledger, *arguments)

    patch.setattr(inventory.StockLedger, "reserve_lines", reserve)


def acknowledge_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    process_batch = Inbox.process_batch

    async def acknowledge(inbox: Inbox, batch: list[IncomingMessage]) -> list[HandlingResult]:
        return [DONE for _ in await process_batch(inbox, batch)]

    patch.setattr(Inbox, "process_batch", acknowledge)


def refund_without_a_cap(patch: pytest.MonkeyPatch) -> None:
    """Who asks the provider again is given back again."""
    patch.setattr(payments.Refund, "key", property(lambda refund: f"{refund.order_id}:refund:{refund.calls}"))


def charge_again_after_a_timeout(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        payments.Payment, "key", property(lambda payment: f"{payment.order_id}:{payment.attempt}.{payment.calls}")
    )


def take_a_timeout_for_a_decline(patch: pytest.MonkeyPatch) -> None:
    result = payments.CaptureResult

    def decline(state: str, reason: str = "", charge: str | None = None) -> payments.CaptureResult:
        return result("failed" if state == "unknown" else cast(Any, state), reason, charge)

    patch.setattr(charge, "CaptureResult", decline)


def cancel_what_has_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Saga, "has_ended", property(lambda saga: saga.is_closed))


def charge_after_a_cancellation(patch: pytest.MonkeyPatch) -> None:
    async def hold_nothing(*_: object) -> HoldResult:
        return HoldResult()

    patch.setattr(refund, "hold_capture", hold_nothing)


BUGS: dict[Callable[[pytest.MonkeyPatch], None], str] = {
    reserve_what_is_not_there: "stock_not_oversold",
    acknowledge_before_the_commit: "I7",
    refund_without_a_cap: "I3",
    charge_again_after_a_timeout: "I3",
    take_a_timeout_for_a_decline: "I3",
    cancel_what_has_left: "I3",
    charge_after_a_cancellation: "I12",
}


@pytest.mark.slow
@pytest.mark.parametrize("plant", BUGS, ids=[plant.__name__ for plant in BUGS])
async def test_a_planted_bug_turns_them_red(
    backends: Backends, monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    results, _ = await run_schedules(backends, range(GROUP))
    violations = [violation for result in results for violation in result.violations]
    assert any(BUGS[plant] in violation for violation in violations), violations[:5]
    print(len(results), "schedules:", violations[0])
