"""The page of reconciliation: a planted gap is in the list, and its case is repaired or dismissed there."""

from collections.abc import AsyncIterator

import pytest

from caravan.runtime import Backends, run_migrations
from services.reconciliation.store.books import OUTBOXES
from services.registry import load_services
from tests.services.gateway.console.console_case import ConsoleCase
from tests.services.reconciliation.conftest import compare, keep_up
from tests.services.reconciliation.planting import Order, open_planter
from tests.support.shop import run_services

PATH = "/console/reconciliation"


@pytest.fixture(scope="module")
async def console(backends: Backends) -> AsyncIterator[ConsoleCase]:
    await run_migrations(load_services(OUTBOXES), backends)
    async with run_services(backends, "gateway", "reconciliation", "payments") as shop:
        yield ConsoleCase(shop)


async def test_a_case_is_listed_and_dismissed_or_repaired_on_its_page(console: ConsoleCase, backends: Backends) -> None:
    admin, context = console.create_session("admin"), console.shop.get_context("reconciliation")
    context.resources.measure_lag = keep_up
    context.settings = context.settings.model_copy(update={"settle_seconds": 1.0, "run_seconds": 80000.0})
    empty = await console.get(admin, PATH)
    assert empty.status_code == 200, empty.text
    assert "Everything adds up" in empty.text
    async with open_planter(backends) as planter:
        orders = [
            await planter.plant_order(Order(events=(), reservation="", shipment="")),
            await planter.plant_order(Order(shipped_units=3)),
        ]
    await compare(context)
    listed = await console.get(admin, PATH)
    assert "2 cases are open" in listed.text
    assert all(str(order_id) in listed.text for order_id in orders)
    ids = await context.database.fetch("SELECT id, order_id FROM gap_case ORDER BY gap_class")
    captured, units = f"{PATH}/{ids[0][0]}", f"{PATH}/{ids[1][0]}"
    page = await console.get(admin, captured)
    assert "give the money back" in page.text.lower()
    assert f'action="{captured}/repair"' in page.text
    assert "/repair" not in (await console.get(admin, units)).text, "a person has to"
    assert (await console.post(admin, f"{captured}/repair")).status_code == 303
    assert "repairing" in (await console.get(admin, captured)).text
    assert (await console.post(admin, f"{units}/dismiss", {"reason": "counted by hand"})).status_code == 303
    assert "counted by hand" in (await console.get(admin, units)).text
    assert (await console.post(admin, f"{PATH}/compare")).status_code == 303
