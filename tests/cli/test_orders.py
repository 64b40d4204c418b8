"""`caravan orders` against a whole shop behind a port."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from caravan.runtime import Backends
from cli import app
from tests.services.gateway.stand_ins import listening
from tests.support.new_cluster import SECRET
from tests.support.scenario import run_whole_shop
from tests.support.shop import wait_until


async def test_the_timeline_and_the_fold_of_an_order(
    backends: Backends, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_whole_shop(backends, tmp_path / "shop") as scenario, listening(scenario.shop.process.app) as url:
        program = scenario.program
        monkeypatch.setenv("CARAVAN_SECRET", SECRET)
        staff = await program.authorize_operator()

        async def get_token(*_: Any) -> str:
            return staff["authorization"].removeprefix("Bearer ")

        async def run_caravan(*arguments: str) -> Result:
            return await asyncio.to_thread(CliRunner().invoke, app, ["orders", *arguments, "--url", url])

        monkeypatch.setattr("cli.api_client.ApiClient.get_token", get_token)
        owner, sku = await program.register_customer(), await program.create_product(stock=10)
        order_id = (await program.place_order(owner, sku)).json()["id"]

        async def is_delivered() -> bool:
            return bool((await program.get_order(owner, order_id))["status"] == "delivered")

        await wait_until(is_delivered, seconds=30, every=0.1)
        shown = await run_caravan("show", order_id)
        assert shown.exit_code == 0, shown.output
        for text in (
            "OrderCreated",
            "reserve_stock",
            "capture_captured",
            "delivered 1×, effect 1×",
            f"key {order_id}:1",
        ):
            assert text in shown.output
        exported = orjson.loads((await run_caravan("show", order_id, "--output", "json")).output)
        assert exported["items"][0]["kind"] == "OrderCreated"
        changed = await run_caravan("show", order_id, "--from", exported["items"][0]["causal_time"])
        assert "what changed" in changed.output

        replayed = await run_caravan("replay", order_id)
        assert replayed.exit_code == 0, replayed.output
        assert "paid → shipped" in replayed.output
        assert "the read side is equal to their fold" in replayed.output
        reads = scenario.shop.get_context("orders").databases["orders_read"]
        await reads.execute("UPDATE order_summary SET status = 'paid' WHERE id = $1", order_id)
        differing = await run_caravan("replay", order_id)
        assert differing.exit_code == 1
        assert "DIFFERS" in differing.output

        assert (await run_caravan("show", "nothing")).exit_code == 2
