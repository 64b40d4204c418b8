"""`caravan reconcile` against a shop behind a port: what it prints, what it repairs, and its exit status."""

import asyncio
from functools import partial

import orjson
import pytest
from typer.testing import CliRunner, Result

from caravan.runtime import Backends, run_migrations
from cli import app
from services.reconciliation.store.books import OUTBOXES
from services.registry import load_services
from tests.services.gateway.stand_ins import listening
from tests.services.reconciliation.conftest import keep_up
from tests.services.reconciliation.planting import Order, open_planter
from tests.support.new_cluster import SECRET
from tests.support.shop import run_services, wait_until


async def test_books_are_compared_repaired_and_compared_again(
    backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAVAN_SECRET", SECRET)
    monkeypatch.setenv("RECONCILIATION_RUN_SECONDS", "80000")
    monkeypatch.setenv("RECONCILIATION_SETTLE_SECONDS", "1")
    await run_migrations(load_services(OUTBOXES), backends)
    async with (
        run_services(backends, "gateway", "reconciliation", "payments") as shop,
        open_planter(backends) as planter,
        listening(shop.process.app) as url,
    ):
        shop.get_context("reconciliation").resources.measure_lag = keep_up

        async def get_token(_: object, __: str) -> str:
            return shop.issuer.issue_token("admin")

        monkeypatch.setattr("cli.api_client.ApiClient.get_token", get_token)
        run = partial(run_reconcile, url)
        right = await run()
        assert (right.exit_code, "the books agree" in right.output) == (0, True), right.output
        order_id = await planter.plant_order(Order(events=(), reservation="", shipment=""))
        wrong = await run("--full")
        assert wrong.exit_code == 1
        assert "captured_without_order" in wrong.output
        rehearsed = orjson.loads((await run("--repair", "--output", "json")).stdout)
        assert [plan["outcome"] for plan in rehearsed["repairs"]] == ["would be repairing"]
        assert [case["state"] for case in rehearsed["cases"]] == ["open"]
        repaired = orjson.loads((await run("--repair", "--no-dry-run", "--output", "json")).stdout)
        assert [case["state"] for case in repaired["cases"]] == ["repairing"]
        refunded = "SELECT state = 'done' FROM refund WHERE order_id = $1"
        await wait_until(lambda: shop.get_database("payments").fetchval(refunded, order_id))

        async def agrees() -> bool:
            return (await run()).exit_code == 0

        await wait_until(agrees)


async def run_reconcile(url: str, *arguments: str) -> Result:
    command = ["reconcile", *arguments, "--url", url]
    return await asyncio.to_thread(CliRunner().invoke, app, command, catch_exceptions=False)
