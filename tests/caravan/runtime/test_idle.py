"""A shop at rest asks its servers next to nothing, and wakes at once."""

import asyncio

import asyncpg

from caravan.leadership import Leadership
from caravan.runtime import Backends
from caravan.runtime.periodic import choose_interval
from caravan.telemetry.metrics import STATEMENTS
from services.payments.jobs import PERIODIC
from tests.support.deliveries import build_delivery
from tests.support.shop import run_services, wait_until

REST_SECONDS = 2.0


def statements() -> float:
    return sum(
        sample.value for metric in STATEMENTS.collect() for sample in metric.samples if sample.name.endswith("_total")
    )


async def check_rest(most: float) -> None:
    """So many SQL statements of this process at most in a second of rest; in one of three observations, as what was
    begun may still be finished.
    """
    found = []
    for _ in range(3):
        before = statements()
        await asyncio.sleep(REST_SECONDS)  # the length of the observation, not a wait for something
        found.append((statements() - before) / REST_SECONDS)
        if found[-1] <= most:
            return
    raise AssertionError(f"at rest it asks {found} times a second")


async def test_relays_and_readers_that_hear_of_every_message_do_not_poll(backends: Backends) -> None:
    async with run_services(backends, "recommendations", "analytics"):
        await check_rest(most=2)


async def test_sweepers_rest_with_their_service_and_wake_with_it(backends: Backends) -> None:
    names = ("orders", "inventory", "payments", "processing", "shipping", "notifications", "catalog")
    async with run_services(backends, *names) as shop:
        for name in names:
            for database in shop.get_context(name).databases.values():
                database.last_active_at -= 3600  # as after an hour without work
        await asyncio.sleep(REST_SECONDS)  # what is being waited for now ends
        await check_rest(most=15)
        captures = next(periodic for periodic in PERIODIC if periodic.name == "captures")
        assert choose_interval(captures, shop.get_context("payments")) == 5
        async with shop.get_database("payments").unit_of_work() as uow:
            await uow.claim_messages("anybody", [build_delivery()])
        assert choose_interval(captures, shop.get_context("payments")) == captures.seconds


def hears(leadership: Leadership) -> bool:
    """Asked by a function, because a type checker takes a property for constant."""
    return leadership.receives_notifications


async def test_who_listens_is_woken_when_notifications_may_have_been_lost(backends: Backends) -> None:
    async with run_services(backends, "payments"):
        leadership, heard = Leadership(backends.get_database_url("payments"), "probe"), list[str]()
        await leadership.listen("anything", heard.append)
        assert hears(leadership)
        assert leadership.choose_poll_seconds(10, 1) == 10
        other = await asyncpg.connect(backends.get_database_url("payments"))
        try:
            await other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'caravan probe "
                "leadership'"
            )
            await wait_until(lambda: _has_heard(heard, [""]))
            assert not hears(leadership)
            assert leadership.choose_poll_seconds(10, 1) == 1
            await leadership.try_lead("whatever")  # connects again, and listens again
            await other.execute("SELECT pg_notify('anything', 'new')")
            await wait_until(lambda: _has_heard(heard, ["", "new"]))
            assert hears(leadership)
        finally:
            await other.close()
            await leadership.close()


async def _has_heard(heard: list[str], expected: list[str]) -> bool:
    return heard == expected
