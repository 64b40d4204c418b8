"""A fault flag does what it says while it is on, is told by the metric, and is nothing while it is off."""

import asyncio
from collections.abc import Iterator

import pytest

from caravan import fault_flags
from caravan.fault_flags import CONSUMER_STUCK, DATABASE_SLOW, FAULTS, OUTBOX_BLOCKED, PROVIDER_FAILING, FaultInjected
from caravan.telemetry import metrics


@pytest.fixture(autouse=True)
def all_off() -> Iterator[None]:
    yield
    fault_flags.switch(())


def read_gauge(name: str) -> float:
    return float(metrics.FAULT_ACTIVE.labels(name)._value.get())


def test_what_is_switched_is_on_alone_and_told() -> None:
    fault_flags.switch([DATABASE_SLOW, "of-another-version", "of-another-version:orders"])
    assert fault_flags.active == {DATABASE_SLOW}
    assert {name for name in FAULTS if read_gauge(name)} == {DATABASE_SLOW}
    fault_flags.switch([])
    assert not fault_flags.active
    assert read_gauge(DATABASE_SLOW) == 0.0


def test_a_fault_with_a_target_is_on_for_that_alone() -> None:
    fault_flags.switch([f"{OUTBOX_BLOCKED}:orders"])
    assert fault_flags.is_on(OUTBOX_BLOCKED, "orders")
    assert not fault_flags.is_on(OUTBOX_BLOCKED, "payments")
    assert not fault_flags.is_on(CONSUMER_STUCK, "orders")
    assert fault_flags.is_on(OUTBOX_BLOCKED, "orders.of-one-kind"), "and for what belongs to it"
    assert read_gauge(OUTBOX_BLOCKED) == 1.0
    fault_flags.switch([OUTBOX_BLOCKED])
    assert fault_flags.is_on(OUTBOX_BLOCKED, "payments"), "without a target it is on for all"


def test_a_relay_fails_as_it_does_without_its_broker() -> None:
    fault_flags.fail(OUTBOX_BLOCKED, "orders")
    fault_flags.switch([OUTBOX_BLOCKED])
    with pytest.raises(FaultInjected, match="the fault outbox-blocked is on; `caravan faults off` ends it"):
        fault_flags.fail(OUTBOX_BLOCKED, "orders")


async def test_a_reader_is_held_until_the_fault_is_off_or_it_stops() -> None:
    fault_flags.switch([CONSUMER_STUCK])
    stops: list[bool] = []
    held = asyncio.create_task(fault_flags.hold(CONSUMER_STUCK, "orders", lambda: bool(stops)))
    stopping = asyncio.create_task(fault_flags.hold(CONSUMER_STUCK, "orders", lambda: True))
    async with asyncio.timeout(5):
        await stopping
    assert not held.done()
    fault_flags.switch([])
    async with asyncio.timeout(5):
        await held


async def test_another_fault_slows_nothing_down() -> None:
    fault_flags.switch([OUTBOX_BLOCKED])
    async with asyncio.timeout(0.5):
        await fault_flags.slow_down(DATABASE_SLOW)


async def test_a_provider_fails_alone() -> None:
    fault_flags.switch([f"{PROVIDER_FAILING}:shipping"])
    await fault_flags.disturb_provider("payment")
    with pytest.raises(FaultInjected):
        await fault_flags.disturb_provider("shipping")
